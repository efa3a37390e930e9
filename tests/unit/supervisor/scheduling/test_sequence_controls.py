"""What a model is told of where it is in a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tritonpy.ipc.dtypes import numpy_dtype
from tritonpy.ipc.errors import InvalidArgumentError, StatusError, UnsupportedError
from tritonpy.ipc.tensor import Tensor, decode_bytes
from tritonpy.supervisor.config.parse import from_text
from tritonpy.supervisor.scheduling.sequence_controls import SequenceControls


def controls(*given: tuple[str, str, str], batch: int = 4) -> SequenceControls:
    """Controls by name, kind and values."""
    inputs = "".join(
        f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {more} }} }}'
        for name, kind, more in given
    )
    text = f'name: "m" max_batch_size: {batch} sequence_batching {{ {inputs} }}'
    return SequenceControls(from_text(text, "config.pbtxt"))


def values(tensors: list[Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tensor in tensors:
        assert isinstance(tensor.data, memoryview)
        if tensor.datatype == "BYTES":
            found[tensor.name] = decode_bytes(tensor.data, 1)[0]
        else:
            found[tensor.name] = np.frombuffer(tensor.data, numpy_dtype(tensor.datatype))[0]
    return found


def test_a_model_is_told_of_start_end_ready_and_its_id() -> None:
    all_of_them = controls(
        ("S", "START", "int32_false_true: [ 0, 1 ]"),
        ("E", "END", "int32_false_true: [ 0, 1 ]"),
        ("R", "READY", "int32_false_true: [ 0, 1 ]"),
        ("C", "CORRID", "data_type: TYPE_UINT64"),
    )

    first = values(all_of_them.tensors(2**64 - 1, start=True, end=False))
    last = values(all_of_them.tensors(5, start=False, end=True))

    assert first == {"S": 1, "E": 0, "R": 1, "C": 2**64 - 1}
    assert last == {"S": 0, "E": 1, "R": 1, "C": 5}
    assert values(all_of_them.null) == {"S": 0, "E": 0, "R": 0, "C": 0}


@pytest.mark.parametrize(
    ("pair", "datatype", "false", "true"),
    [
        ("int32_false_true: [ -1, 7 ]", "INT32", -1, 7),
        ("fp32_false_true: [ 0.5, 2.5 ]", "FP32", 0.5, 2.5),
        ("bool_false_true: [ false, true ]", "BOOL", False, True),
        ("bool_false_true: [ true, false ]", "BOOL", True, False),
    ],
)
def test_false_and_true_are_what_the_configuration_says(
    pair: str, datatype: str, false: object, true: object
) -> None:
    ready = controls(("R", "READY", pair))

    (told,) = ready.tensors(1, start=False, end=False)

    assert told.datatype == datatype
    assert values([told]) == {"R": true}
    assert values(ready.null) == {"R": false}


@pytest.mark.parametrize(("batch", "shape"), [(0, (1,)), (1, (1, 1)), (8, (1, 1))])
def test_a_control_has_one_element_in_each_row(batch: int, shape: tuple[int, ...]) -> None:
    given = controls(
        ("S", "START", "int32_false_true: [ 0, 1 ]"),
        ("C", "CORRID", "data_type: TYPE_INT32"),
        batch=batch,
    )

    assert [t.shape for t in given.tensors(3, start=True, end=True)] == [shape, shape]


@pytest.mark.parametrize("datatype", ["UINT64", "INT64", "UINT32", "INT32"])
def test_an_id_is_told_in_its_datatype(datatype: str) -> None:
    given = controls(("C", "CORRID", f"data_type: TYPE_{datatype}"))

    (told,) = given.tensors(77, start=False, end=False)

    assert (told.datatype, values([told])) == (datatype, {"C": 77})
    assert given.as_id(3) == 3


def test_an_id_may_be_text() -> None:
    given = controls(("C", "CORRID", "data_type: TYPE_STRING"))

    (told,) = given.tensors("größe", start=False, end=False)

    assert (told.datatype, values([told])) == ("BYTES", {"C": "größe".encode()})
    assert values(given.null) == {"C": b""}
    assert given.as_id(3) == "3"


@pytest.mark.parametrize(
    ("datatype", "id", "kind", "message"),
    [
        ("TYPE_UINT64", "five", InvalidArgumentError, "is a string, but control input 'C' is UINT"),
        ("TYPE_STRING", 5, InvalidArgumentError, "is a number, but control input 'C' is BYTES"),
        ("TYPE_INT32", 2**31, InvalidArgumentError, "does not fit control input 'C', .* is INT32"),
        ("TYPE_UINT32", -1, InvalidArgumentError, "does not fit control input 'C'"),
        ("TYPE_STRING", "a" * 129, UnsupportedError, "cannot be longer than 128 characters"),
    ],
)
def test_an_id_that_the_model_cannot_be_told_is_refused(
    datatype: str, id: int | str, kind: type[StatusError], message: str
) -> None:
    given = controls(("C", "CORRID", f"data_type: {datatype}"))

    with pytest.raises(kind, match=message):
        given.check_id(id)


def test_a_model_that_is_not_told_takes_any_id() -> None:
    given = controls(("S", "START", "int32_false_true: [ 0, 1 ]"))

    given.check_id("text")
    given.check_id(2**64 - 1)
    with pytest.raises(UnsupportedError):
        given.check_id("a" * 129)
