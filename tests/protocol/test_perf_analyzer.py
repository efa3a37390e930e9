"""NVIDIA's perf_analyzer drives the server, unmodified, in each of its ways to send requests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import models
from support.servers import RunningServer, serving

if TYPE_CHECKING:
    from benchmarks.load import rival
else:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "load"))
    import rival

pytestmark = pytest.mark.slow

_RATE = re.compile(r"throughput: ([0-9.]+) infer/sec")
_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def program() -> rival.Program:
    """Fetched once into the benchmarks' cache; skips where the machine cannot have it."""
    try:
        return rival.perf_analyzer(rival.cache_folder())
    except rival.MissingError as missing:
        pytest.skip(f"perf_analyzer cannot be had: {missing}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", dims=[4])
    models.identity(repository, "batched", dims=[4], max_batch_size=8)
    models.identity(repository, "text", "TYPE_STRING", dims=[1])
    models.square(repository, "square")
    with serving(repository, arguments=["--allow-client-shm=true"]) as running:
        yield running
        assert "Traceback" not in running.log


def drive(program: rival.Program, server: RunningServer, model: str, *arguments: str) -> str:
    """Send requests for a few short windows, whatever they vary, and return the report."""
    protocol = arguments[arguments.index("-i") + 1]
    done = subprocess.run(
        [
            str(program.path),
            *("-m", model, "-u", server.http if protocol == "http" else server.grpc),
            *("--measurement-interval", "200", "--stability-percentage", "999"),
            *arguments,
        ],
        env=dict(program.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("plain", "-i http"),
        ("plain", "-i grpc"),
        ("plain", "-i http --async --concurrency-range 4"),
        ("plain", "-i grpc --async --concurrency-range 4"),
        ("plain", "-i grpc --streaming"),
        ("batched", "-i http -b 4"),
        ("batched", "-i grpc --request-rate-range 50"),
        ("text", "-i http --string-length 16"),
        ("text", "-i grpc"),
        ("plain", "-i http --shared-memory system"),
        ("plain", "-i grpc --shared-memory system"),
        ("plain", "-i grpc --streaming --shared-memory system"),
    ],
)
def test_requests_are_measured_without_an_error(
    program: rival.Program, server: RunningServer, model: str, arguments: str
) -> None:
    check(drive(program, server, model, *arguments.split()))


def test_a_decoupled_model_is_measured_over_a_stream(
    program: rival.Program, server: RunningServer, tmp_path: Path
) -> None:
    data = tmp_path / "data.json"
    data.write_text('{"data": [{"IN": [3]}]}')  # how many responses the model gives
    arguments = ["-i", "grpc", "--streaming", "--input-data", str(data)]
    check(drive(program, server, "square", *arguments))


def check(report: str) -> None:
    rates = [float(rate) for rate in _RATE.findall(report)]
    assert rates, report
    assert min(rates) > 0, report
    assert "rror" not in report
    assert "ailed" not in report
