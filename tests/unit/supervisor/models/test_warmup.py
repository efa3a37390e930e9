"""A model's warm-up section becomes requests that the model can take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.tensor import decode_bytes
from tritonpy.supervisor.config.defaults import normalise
from tritonpy.supervisor.config.parse import from_text
from tritonpy.supervisor.config.schema import ModelConfig
from tritonpy.supervisor.models.warmup import read_samples
from tritonpy.supervisor.workers.warmup import Sample

INPUT = 'inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: 2 %s } }'


def config(
    warmup: str, data_type: str = "TYPE_FP32", max_batch_size: int = 4, dims: str = "2"
) -> ModelConfig:
    text = f"""
        name: "m" backend: "identity" max_batch_size: {max_batch_size}
        input {{ name: "INPUT0" data_type: {data_type} dims: {dims} }}
        output {{ name: "OUTPUT0" data_type: {data_type} dims: {dims} }}
        {warmup}
    """
    return normalise(from_text(text, "config.pbtxt"), [])


def samples(warmup: str, folder: Path, **more: object) -> list[Sample]:
    return read_samples(config(warmup, **more), 1, str(folder))  # type: ignore[arg-type]


def data(sample: Sample, batch: int = 0) -> bytes:
    tensor = sample.batches[batch][0].inputs[0].data
    assert isinstance(tensor, memoryview)
    return bytes(tensor)


def test_a_batch_is_so_many_requests_of_one_row_run_together(tmp_path: Path) -> None:
    zeros = INPUT % "zero_data: true"
    (sample,) = samples(f'model_warmup {{ name: "w" batch_size: 6 count: 3 {zeros} }}', tmp_path)

    assert sample.name == "w"
    assert sample.count == 3
    assert [len(batch) for batch in sample.batches] == [4, 2]
    request = sample.batches[1][1]
    assert request.inputs[0].shape == (1, 2)
    assert data(sample, batch=1) == bytes(8)
    assert request.wanted == ["OUTPUT0"]
    assert request.batch_size == 1


def test_without_batching_each_request_runs_by_itself_in_its_full_shape(tmp_path: Path) -> None:
    zeros = INPUT % "zero_data: true"
    (sample,) = samples(
        f'model_warmup {{ name: "w" batch_size: 2 {zeros} }}', tmp_path, max_batch_size=0
    )

    assert [len(batch) for batch in sample.batches] == [1, 1]
    assert sample.batches[0][0].inputs[0].shape == (2,)
    assert sample.count == 1


def test_a_sample_without_a_batch_size_is_skipped(tmp_path: Path) -> None:
    assert samples(f'model_warmup {{ name: "w" {INPUT % "zero_data: true"} }}', tmp_path) == []


@pytest.mark.parametrize("kind", ["FP16", "BF16", "FP32", "FP64"])
def test_random_floats_are_finite(tmp_path: Path, kind: str) -> None:
    random = INPUT.replace("FP32", kind) % "random_data: true"
    (sample,) = samples(
        f'model_warmup {{ name: "w" batch_size: 1 {random} }}', tmp_path, data_type=f"TYPE_{kind}"
    )

    found = data(sample)
    if kind == "BF16":
        values = (np.frombuffer(found, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(found, f"<f{int(kind[2:]) // 8}").astype(np.float32)
    assert ((values >= 0) & (values <= 1)).all()
    assert values.any()


@pytest.mark.parametrize("kind", ["BOOL", "UINT8", "INT64"])
def test_random_integers_are_small(tmp_path: Path, kind: str) -> None:
    random = (
        f'inputs {{ key: "INPUT0" value {{ data_type: TYPE_{kind} dims: 64 random_data: true }} }}'
    )
    (sample,) = samples(
        f'model_warmup {{ name: "w" batch_size: 1 {random} }}',
        tmp_path,
        data_type=f"TYPE_{kind}",
        dims="64",
    )

    size = 8 if kind == "INT64" else 1
    values = np.frombuffer(data(sample), f"<u{size}")
    assert set(values.tolist()) == {0, 1}


@pytest.mark.parametrize("source", ["zero_data: true", "random_data: true"])
def test_strings_are_empty_ones(tmp_path: Path, source: str) -> None:
    strings = f'inputs {{ key: "INPUT0" value {{ data_type: TYPE_STRING dims: 2 {source} }} }}'
    (sample,) = samples(
        f'model_warmup {{ name: "w" batch_size: 1 {strings} }}', tmp_path, data_type="TYPE_STRING"
    )

    assert decode_bytes(data(sample), 2).tolist() == [b"", b""]


def test_a_file_gives_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "data").write_bytes(bytes(range(20)))
    file = INPUT % 'input_data_file: "data"'
    (sample,) = samples(f'model_warmup {{ name: "w" batch_size: 1 {file} }}', tmp_path)

    assert data(sample) == bytes(range(8))


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (
            INPUT % 'input_data_file: "short"',
            "warmup setting expects 8 bytes, but the data provided from short only has 3 bytes",
        ),
        (INPUT % 'input_data_file: "none"', "'warmup/none' of input 'INPUT0' cannot be read"),
        (INPUT % 'input_data_file: "../secret"', "does not lie in the model's folder 'warmup'"),
        (INPUT % 'input_data_file: "/etc/passwd"', "does not lie in the model's folder 'warmup'"),
        (INPUT % 'input_data_file: "link"', "does not lie in the model's folder 'warmup'"),
        (
            'inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: -1 zero_data: true } }',
            "expects all variable-size dimensions are specified for input 'INPUT0'",
        ),
        (
            'inputs { key: "NOPE" value { data_type: TYPE_FP32 dims: 2 zero_data: true } }',
            "unexpected inference input 'NOPE' for model 'm'",
        ),
        (
            'inputs { key: "INPUT0" value { data_type: TYPE_INT8 dims: 2 zero_data: true } }',
            "data-type is 'INT8', but model 'm' expects 'FP32'",
        ),
    ],
)
def test_a_sample_that_the_model_cannot_take_is_refused_by_name(
    tmp_path: Path, inputs: str, complaint: str
) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "short").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "warmup" / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(InvalidArgumentError) as refusal:
        samples(f'model_warmup {{ name: "cold" batch_size: 1 {inputs} }}', tmp_path)

    assert refusal.value.message.startswith("failed to run warmup sample 'cold': ")
    assert complaint in refusal.value.message


SEQUENCE = """
    sequence_batching {
      control_input { name: "S" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }}
      control_input { name: "C" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING }}
      state { input_name: "A" output_name: "B" data_type: TYPE_FP32 dims: 2 }
    }
    model_warmup { name: "w" batch_size: 1 %s %s }
"""


def test_a_sample_of_a_sequence_model_starts_a_sequence(tmp_path: Path) -> None:
    (sample,) = samples(SEQUENCE % (INPUT % "zero_data: true", ""), tmp_path)

    (request,) = sample.batches[0]
    assert [tensor.name for tensor in request.inputs] == ["INPUT0", "S", "C"]
    start = request.inputs[1].data
    assert isinstance(start, memoryview)
    assert bytes(start) == b"\1\0\0\0"


def test_a_sample_may_name_controls_and_states(tmp_path: Path) -> None:
    more = """
        inputs { key: "S" value { data_type: TYPE_INT32 dims: 1 zero_data: true } }
        inputs { key: "A" value { data_type: TYPE_FP32 dims: 2 random_data: true } }
    """
    (sample,) = samples(SEQUENCE % (INPUT % "zero_data: true", more), tmp_path)

    (request,) = sample.batches[0]
    assert [tensor.name for tensor in request.inputs] == ["INPUT0", "A", "S", "C"]
    assert [tensor.shape for tensor in request.inputs] == [(1, 2), (1, 2), (1, 1), (1, 1)]
    start = request.inputs[2].data
    assert isinstance(start, memoryview)
    assert bytes(start) == bytes(4)
