"""Traces as files: which files there are, and what stands in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tritonpy.ipc.tensor import encode_bytes
from tritonpy.supervisor.telemetry.trace import Identity, Trace, TracedTensor
from tritonpy.supervisor.telemetry.trace_file import TraceFile, data_text
from tritonpy.supervisor.telemetry.trace_settings import TraceSettings


def _trace(number: int, frequency: int = 0) -> Trace:
    settings = TraceSettings(levels=("TIMESTAMPS", "TENSORS"), log_frequency=frequency)
    trace = Trace(number, settings, "", lambda _: None, lambda parent: parent)
    trace.stamp("HTTP_RECV_START", 5)
    trace.entries.append(Identity("m", 2, "r" if number == 1 else ""))
    return trace


def _write(path: Path, *traces: Trace) -> list[str]:
    file = TraceFile(str(path / "t.json"))
    for trace in traces:
        file.add(trace)
    file.close()
    return sorted(found.name for found in path.iterdir())


def test_all_traces_are_in_one_file_at_the_end(tmp_path: Path) -> None:
    assert _write(tmp_path, _trace(1), _trace(2)) == ["t.json"]
    assert json.loads((tmp_path / "t.json").read_text()) == [
        {"id": 1, "timestamps": [{"name": "HTTP_RECV_START", "ns": 5}]},
        {"id": 1, "model_name": "m", "model_version": 2, "request_id": "r"},
        {"id": 2, "timestamps": [{"name": "HTTP_RECV_START", "ns": 5}]},
        {"id": 2, "model_name": "m", "model_version": 2},
    ]


def test_a_file_holds_as_many_traces_as_it_should(tmp_path: Path) -> None:
    names = _write(tmp_path, *(_trace(number, 2) for number in range(1, 6)))
    assert names == ["t.json.0", "t.json.1", "t.json.2"]
    ids = [[entry["id"] for entry in json.loads((tmp_path / name).read_text())] for name in names]
    assert ids == [[1, 1, 2, 2], [3, 3, 4, 4], [5, 5]]


def test_without_traces_there_is_no_file(tmp_path: Path) -> None:
    assert _write(tmp_path) == []


def test_a_file_that_cannot_be_written_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = TraceFile(str(tmp_path / "missing" / "t.json"))
    file.add(_trace(1))
    file.close()
    assert "1 traces are lost" in caplog.text


@pytest.mark.parametrize(
    ("datatype", "data", "text"),
    [
        ("FP32", np.array([1, 4.5, 1e6, -0.25], np.float32).tobytes(), "1,4.5,1e+06,-0.25"),
        ("INT64", np.array([-1, 2**40], np.int64).tobytes(), "-1,1099511627776"),
        ("BOOL", b"\x01\x00", "1,0"),
        ("BYTES", encode_bytes([b"a", "b,\u00fc".encode()]), "a,b,\u00fc"),
        ("FP16", b"\x00\x00", ""),
        ("UINT8", b"", ""),
        ("FP32", None, ""),
    ],
)
def test_tensors_are_written_as_text(datatype: str, data: bytes | None, text: str) -> None:
    count = 2 if datatype == "BYTES" else 0
    assert data_text(TracedTensor("A", "x", datatype, (count,), data)) == text
