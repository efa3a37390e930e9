"""The check at the door: each rule, in Triton's words."""

from __future__ import annotations

import pytest

from tritonpy.ipc.dtypes import DataType
from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.tensor import Span, Tensor
from tritonpy.supervisor.config.schema import ModelConfig, ModelInput, ModelOutput
from tritonpy.supervisor.models.admission import Admission
from tritonpy.supervisor.request import InferRequest, RequestedOutput

FIXED = ModelConfig(
    name="m",
    input=[ModelInput(name="A", data_type="TYPE_FP32", dims=[2, 3])],
    output=[ModelOutput(name="X", data_type="TYPE_FP32", dims=[2, 3])],
)
TWO = ModelConfig(
    name="m",
    max_batch_size=4,
    input=[
        ModelInput(name="A", data_type="TYPE_FP32", dims=[-1]),
        ModelInput(name="B", data_type="TYPE_INT64", dims=[2]),
    ],
    output=[
        ModelOutput(name="X", data_type="TYPE_FP32", dims=[-1]),
        ModelOutput(name="Y", data_type="TYPE_FP32", dims=[-1]),
    ],
)
RAGGED = ModelConfig(
    name="m",
    max_batch_size=4,
    input=[
        ModelInput(name="A", data_type="TYPE_FP32", dims=[-1], allow_ragged_batch=True),
        ModelInput(name="B", data_type="TYPE_INT64", dims=[-1]),
    ],
    output=[ModelOutput(name="X", data_type="TYPE_FP32", dims=[-1])],
)
OPTIONAL = ModelConfig(
    name="m",
    input=[
        ModelInput(name="A", data_type="TYPE_UINT8", dims=[2]),
        ModelInput(name="B", data_type="TYPE_UINT8", dims=[2], optional=True),
        ModelInput(name="C", data_type="TYPE_UINT8", dims=[2], optional=True),
    ],
    output=[ModelOutput(name="X", data_type="TYPE_UINT8", dims=[2])],
)
STRING = ModelConfig(
    name="m",
    input=[ModelInput(name="A", data_type="TYPE_STRING", dims=[-1, -1])],
    output=[ModelOutput(name="X", data_type="TYPE_STRING", dims=[-1])],
)

_SIZES: dict[str, int] = {"FP32": 4, "INT64": 8, "UINT8": 1}


def tensor(name: str, datatype: DataType, *shape: int, size: int | None = None) -> Tensor:
    """A tensor whose bytes are those of its shape, unless it is said otherwise."""
    if size is None:
        size = _SIZES.get(datatype, 0)
        for extent in shape:
            size *= extent
    return Tensor(name, datatype, shape, memoryview(bytes(max(0, size))))


def request(*inputs: Tensor, outputs: tuple[str, ...] = (), id: str = "") -> InferRequest:
    return InferRequest("m", None, list(inputs), [RequestedOutput(name) for name in outputs], id)


def refusal(config: ModelConfig, asked: InferRequest) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        Admission(config).check(asked)
    return caught.value.message


UNKNOWN = "[request id: <id_unknown>] "


def test_what_fits_is_let_in_and_told_what_it_will_get() -> None:
    asked = request(tensor("A", "FP32", 2, 3))

    Admission(FIXED).check(asked)

    assert asked.batch_size == 1
    assert asked.wanted == ["X"]
    assert asked.signature is None  # all requests look alike


def test_the_batch_size_is_the_first_dimension() -> None:
    asked = request(tensor("A", "FP32", 3, 5), tensor("B", "INT64", 3, 2), outputs=("Y",))

    Admission(TWO).check(asked)

    assert asked.batch_size == 3
    assert asked.wanted == ["Y"]


def test_only_requests_of_the_same_shapes_may_share_a_batch() -> None:
    admission = Admission(TWO)
    signatures: list[object] = []
    for rows, length in ((1, 5), (3, 5), (1, 6)):
        asked = request(tensor("A", "FP32", rows, length), tensor("B", "INT64", rows, 2))
        admission.check(asked)
        signatures.append(asked.signature)

    assert signatures[0] == signatures[1]
    assert signatures[0] != signatures[2]


def test_only_requests_of_the_same_inputs_may_share_a_batch() -> None:
    admission = Admission(OPTIONAL)
    without, with_one = (
        request(tensor("A", "UINT8", 2)),
        request(tensor("A", "UINT8", 2), tensor("C", "UINT8", 2)),
    )
    admission.check(without)
    admission.check(with_one)

    assert without.signature != with_one.signature


def test_the_shape_of_a_ragged_input_does_not_matter_but_that_of_others_does() -> None:
    admission = Admission(RAGGED)
    signatures: list[object] = []
    for length, other in ((1, 2), (7, 2), (7, 3)):
        asked = request(tensor("A", "FP32", 1, length), tensor("B", "INT64", 1, other))
        admission.check(asked)
        signatures.append(asked.signature)

    assert signatures[0] == signatures[1]
    assert signatures[1] != signatures[2]


def test_a_tensor_in_shared_memory_is_judged_by_its_span() -> None:
    Admission(FIXED).check(request(Tensor("A", "FP32", (2, 3), Span(1, 0, 24))))
    short = request(Tensor("A", "FP32", (2, 3), Span(1, 0, 23)))
    assert "Expected 24, got 23" in refusal(FIXED, short)


def test_the_bytes_of_strings_are_the_workers_to_count() -> None:
    Admission(STRING).check(request(tensor("A", "BYTES", 2, 1, size=11)))


def test_a_batch_of_nothing_is_let_in() -> None:
    asked = request(tensor("A", "FP32", 0, 5), tensor("B", "INT64", 0, 2))
    Admission(TWO).check(asked)
    assert asked.batch_size == 1


@pytest.mark.parametrize(
    ("config", "asked", "message"),
    [
        pytest.param(
            FIXED,
            request(tensor("Q", "FP32", 2, 3)),
            "unexpected inference input 'Q' for model 'm'",
            id="unknown input",
        ),
        pytest.param(
            FIXED,
            request(tensor("A", "FP32", 2, 3), outputs=("X", "Q")),
            "unexpected inference output 'Q' for model 'm'",
            id="unknown output",
        ),
        pytest.param(
            FIXED,
            request(tensor("A", "INT64", 2, 3)),
            UNKNOWN + "inference input 'A' data-type is 'INT64', but model 'm' expects 'FP32'",
            id="datatype",
        ),
        pytest.param(
            FIXED,
            request(Tensor("A", "FP31", (2, 3), memoryview(b""))),  # type: ignore[arg-type]
            UNKNOWN + "inference input 'A' data-type is '<invalid>', but model 'm' expects 'FP32'",
            id="no datatype at all",
        ),
        pytest.param(
            FIXED,
            request(tensor("A", "FP32", 2, 4)),
            UNKNOWN + "unexpected shape for input 'A' for model 'm'. Expected [2,3], got [2,4]. ",
            id="shape",
        ),
        pytest.param(
            FIXED,
            request(tensor("A", "FP32", 6)),
            UNKNOWN + "unexpected shape for input 'A' for model 'm'. Expected [2,3], got [6]. ",
            id="rank",
        ),
        pytest.param(
            FIXED,
            request(tensor("A", "FP32", 2, -3, size=24)),
            UNKNOWN + "All input dimensions should be specified for input 'A' for model 'm', "
            "got [2,-3]",
            id="negative dimension",
        ),
        pytest.param(
            STRING,
            request(tensor("A", "BYTES", -2, -3, size=24)),
            UNKNOWN + "All input dimensions should be specified for input 'A' for model 'm', "
            "got [-2,-3]",
            id="two negative dimensions",
        ),
        pytest.param(
            TWO,
            request(tensor("A", "FP32", size=4), tensor("B", "INT64", 1, 2)),
            UNKNOWN + "input 'A' has no shape but model requires batch dimension for 'm'",
            id="no batch dimension",
        ),
        pytest.param(
            TWO,
            request(tensor("A", "FP32", 2, 5), tensor("B", "INT64", 3, 2)),
            UNKNOWN + "input 'B' batch size does not match other inputs for 'm'",
            id="batch sizes differ",
        ),
        pytest.param(
            TWO,
            request(tensor("A", "FP32", 5, 5), tensor("B", "INT64", 5, 2)),
            UNKNOWN + "inference request batch-size must be <= 4 for 'm'",
            id="batch too large",
        ),
        pytest.param(
            FIXED,
            request(tensor("A", "FP32", 2, 3, size=20)),
            UNKNOWN + "input byte size mismatch for input 'A' for model 'm'. Expected 24, got 20",
            id="byte size",
        ),
        pytest.param(
            FIXED,
            request(),
            UNKNOWN + "expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but "
            "missing required input(s) ['A']. Please provide all required input(s).",
            id="nothing at all",
        ),
        pytest.param(
            TWO,
            request(tensor("A", "FP32", 1, 5)),
            UNKNOWN + "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['A'], but "
            "missing required input(s) ['B']. Please provide all required input(s).",
            id="one is missing",
        ),
        pytest.param(
            OPTIONAL,
            request(tensor("C", "UINT8", 2)),
            UNKNOWN + "expected number of inputs between 1 and 3 but got 1 inputs for model 'm'. "
            "Got input(s) ['C'], but missing required input(s) ['A']. Please provide all "
            "required input(s).",
            id="a required one is missing among optional ones",
        ),
        pytest.param(
            TWO,
            request(tensor("A", "FP32", 1, 5), tensor("A", "FP32", 1, 5)),
            UNKNOWN + "input 'A' already exists in request",
            id="twice, and the other is missing",
        ),
        pytest.param(
            OPTIONAL,
            request(tensor("A", "UINT8", 2), tensor("A", "UINT8", 2)),
            UNKNOWN + "input 'A' already exists in request",
            id="twice",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_tritons_words(
    config: ModelConfig, asked: InferRequest, message: str
) -> None:
    assert refusal(config, asked) == message


def test_a_wrong_shape_of_a_model_that_batches_comes_with_a_note() -> None:
    asked = request(tensor("A", "FP32", 3), tensor("B", "INT64", 3, 2))

    message = refusal(TWO, asked)

    assert "Expected [-1,-1], got [3]. NOTE: Setting a non-zero max_batch_size" in message


def test_of_a_batch_too_large_and_a_wrong_shape_the_batch_is_said_first() -> None:
    asked = request(tensor("A", "FP32", 500), tensor("B", "INT64", 500, 2))

    assert "inference request batch-size must be <= " in refusal(TWO, asked)


def test_a_refusal_names_the_request() -> None:
    asked = request(tensor("A", "INT64", 2, 3), id="r-17")
    assert refusal(FIXED, asked).startswith("[request id: r-17] ")


def test_a_shape_that_no_array_can_have_is_refused_though_it_has_no_elements() -> None:
    asked = request(tensor("A", "BYTES", 0, 2**62, size=0))
    assert "exceeds the maximum size" in refusal(STRING, asked)
