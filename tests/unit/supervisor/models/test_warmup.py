"""A model's warm-up section becomes requests that the model can take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
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


def data(sample: Sample) -> bytes:
    tensor = sample.requests[0].inputs[0].data
    assert isinstance(tensor, memoryview)
    return bytes(tensor)


def test_a_batch_is_so_many_requests_of_one_row_run_together(tmp_path: Path) -> None:
    zeros = INPUT % "zero_data: true"
    (sample,) = samples(f'model_warmup {{ name: "w" batch_size: 3 count: 2 {zeros} }}', tmp_path)

    assert sample.name == "w"
    assert sample.count == 2
    assert len(sample.requests) == 3
    request = sample.requests[2]
    assert request.inputs[0].shape == (1, 2)
    assert data(sample) == bytes(8)
    assert request.id == ""
    assert request.wanted == ["OUTPUT0"]
    assert request.batch_size == 1


def test_without_batching_the_request_has_its_full_shape(tmp_path: Path) -> None:
    zeros = INPUT % "zero_data: true"
    (sample,) = samples(
        f'model_warmup {{ name: "w" batch_size: 1 {zeros} }}', tmp_path, max_batch_size=0
    )

    assert [request.inputs[0].shape for request in sample.requests] == [(2,)]
    assert sample.count == 1


@pytest.mark.parametrize(("asked", "most"), [(6, 4), (2, 0)])
def test_a_batch_larger_than_the_models_is_refused(tmp_path: Path, asked: int, most: int) -> None:
    zeros = INPUT % "zero_data: true"
    with pytest.raises(InvalidArgumentError) as refusal:
        samples(
            f'model_warmup {{ name: "w" batch_size: {asked} {zeros} }}',
            tmp_path,
            max_batch_size=most,
        )

    assert refusal.value.message == (
        f"failed to run warmup sample 'w': batch size {asked} for 'm', max allowed is {most}; "
    )


def test_a_later_sample_that_cannot_be_prepared_comes_before_one_that_cannot_be_run(
    tmp_path: Path,
) -> None:
    large = f'model_warmup {{ name: "w" batch_size: 9 {INPUT % "zero_data: true"} }}'
    bare = f'model_warmup {{ name: "v" batch_size: 1 {INPUT % ""} }}'

    with pytest.raises(InvalidArgumentError, match="to have input_data_type set"):
        samples(large + bare, tmp_path)


def test_a_sample_without_a_batch_size_is_skipped(tmp_path: Path) -> None:
    assert samples(f'model_warmup {{ name: "w" {INPUT % "zero_data: true"} }}', tmp_path) == []


@pytest.mark.parametrize("truth", ["true", "false"])
def test_which_kind_of_data_is_there_decides_and_not_its_value(tmp_path: Path, truth: str) -> None:
    sample = 'model_warmup { name: "w" batch_size: 1 %s }'
    (zeros,) = samples(sample % (INPUT % f"zero_data: {truth}"), tmp_path)
    (numbers,) = samples(sample % (INPUT % f"random_data: {truth}"), tmp_path)

    assert data(zeros) == bytes(8)
    assert data(numbers) != bytes(8)


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


NO_ID = "[request id: <id_unknown>] "


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (
            INPUT % 'input_data_file: "short"',
            f"{NO_ID}warmup setting expects 8 bytes, but the data provided from short only has "
            "3 bytes",
        ),
        (
            INPUT % 'input_data_file: "../secret"',
            "the file '../secret' of input 'INPUT0' does not lie in the model's folder 'warmup'",
        ),
        (
            INPUT % 'input_data_file: "/etc/passwd"',
            "the file '/etc/passwd' of input 'INPUT0' does not lie in the model's folder 'warmup'",
        ),
        (
            INPUT % 'input_data_file: "link"',
            "the file 'link' of input 'INPUT0' does not lie in the model's folder 'warmup'",
        ),
        (
            INPUT % "",
            f"{NO_ID}warmup setting expects input 'INPUT0' to have input_data_type set",
        ),
        (
            'inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: -1 zero_data: true } }',
            "warmup setting expects all variable-size dimensions are specified for input 'INPUT0'",
        ),
        (
            'inputs { key: "NOPE" value { data_type: TYPE_FP32 dims: 2 zero_data: true } }',
            "unexpected inference input 'NOPE' for model 'm'",
        ),
        (
            'inputs { key: "INPUT0" value { data_type: TYPE_INT8 dims: 2 zero_data: true } }',
            f"{NO_ID}inference input 'INPUT0' data-type is 'INT8', but model 'm' expects 'FP32'",
        ),
        (
            'inputs { key: "INPUT0" value { dims: 2 zero_data: true } }',
            f"{NO_ID}inference input 'INPUT0' data-type is '<invalid>', but model 'm' expects "
            "'FP32'",
        ),
        (
            "",
            f"{NO_ID}expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but "
            "missing required input(s) ['INPUT0']. Please provide all required input(s).",
        ),
    ],
)
def test_a_sample_that_the_model_cannot_take_is_refused(
    tmp_path: Path, inputs: str, complaint: str
) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "short").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "warmup" / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(InvalidArgumentError) as refusal:
        samples(f'model_warmup {{ name: "cold" batch_size: 1 {inputs} }}', tmp_path)

    assert refusal.value.message == complaint


def test_without_its_dims_an_input_has_no_shape_but_the_batch(tmp_path: Path) -> None:
    bare = 'inputs { key: "INPUT0" value { data_type: TYPE_FP32 zero_data: true } }'

    with pytest.raises(InvalidArgumentError) as refusal:
        samples(f'model_warmup {{ name: "cold" batch_size: 1 {bare} }}', tmp_path)

    assert refusal.value.message.startswith(
        f"{NO_ID}unexpected shape for input 'INPUT0' for model 'm'. Expected [-1,2], got [1]. NOTE"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = INPUT % 'input_data_file: "none"'

    with pytest.raises(InternalError) as refusal:
        samples(f'model_warmup {{ name: "cold" batch_size: 1 {file} }}', tmp_path)

    assert refusal.value.message == (
        "failed to open text file for read warmup/none, of input 'INPUT0': "
        "No such file or directory"
    )


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

    (request,) = sample.requests
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

    (request,) = sample.requests
    assert [tensor.name for tensor in request.inputs] == ["INPUT0", "A", "S", "C"]
    assert [tensor.shape for tensor in request.inputs] == [(1, 2), (1, 2), (1, 1), (1, 1)]
    start = request.inputs[2].data
    assert isinstance(start, memoryview)
    assert bytes(start) == bytes(4)
