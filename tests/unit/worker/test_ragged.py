"""Ragged batches against what plain loops over the requests would compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.worker.backend import Array
from tritonpy.worker.batch import GraphShapes, gather, scatter
from tritonpy.worker.ragged import Ragged

KINDS = (
    "BATCH_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
    "BATCH_ITEM_SHAPE",
    "BATCH_ITEM_SHAPE_FLATTEN",
)
Config = dict[str, Any]

#: The shapes of one input in the requests of a batch: rows, then two variable dimensions.
SHAPES = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=6
)


def config(data_type: str = "TYPE_INT32", **more: Any) -> Config:
    """x is ragged with two variable dimensions, and each kind of generated input is made of it."""
    return {
        "max_batch_size": 64,
        "input": [{"name": "x", "dims": [-1, -1], "allow_ragged_batch": True}],
        "output": [{"name": "y", "dims": [-1, -1]}],
        "batch_input": [
            {"kind": kind, "target_name": [kind], "data_type": data_type, "source_input": ["x"]}
            for kind in KINDS
        ],
        **more,
    }


def numbered(shapes: Sequence[tuple[int, ...]]) -> list[dict[str, Array]]:
    """Requests whose elements are numbered through the whole batch."""
    requests: list[dict[str, Array]] = []
    start = 0
    for shape in shapes:
        end = start + int(np.prod(shape))
        requests.append({"x": np.arange(start, end, dtype=np.float32).reshape(shape)})
        start = end
    return requests


def naive(kind: str, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """The generated input as the documentation of its kind describes it."""
    counts: list[int] = []
    for shape in shapes:
        count = 1
        for extent in shape:
            count *= extent
        counts.append(count)
    totals = [sum(counts[: index + 1]) for index in range(len(counts))]
    items = [list(shape[1:]) for shape in shapes for _ in range(shape[0])]
    found: dict[str, list[Any]] = {
        "BATCH_ELEMENT_COUNT": counts,
        "BATCH_ACCUMULATED_ELEMENT_COUNT": totals,
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": [0, *totals],
        "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": [0] * max(counts),
        "BATCH_ITEM_SHAPE": items,
        "BATCH_ITEM_SHAPE_FLATTEN": [extent for item in items for extent in item],
    }
    return found[kind]


@given(shapes=SHAPES, data_type=st.sampled_from(["TYPE_INT32", "TYPE_FP32"]))
def test_generated_inputs_are_those_of_plain_loops(
    shapes: list[tuple[int, int, int]], data_type: str
) -> None:
    batch = gather(numbered(shapes), GraphShapes(config(data_type)))
    for kind in KINDS:
        array = batch.arrays[kind]
        assert array.dtype == (np.int32 if data_type == "TYPE_INT32" else np.float32)
        assert array.tolist() == naive(kind, shapes), kind


@given(SHAPES)
def test_a_ragged_input_is_all_elements_in_order(shapes: list[tuple[int, int, int]]) -> None:
    batch = gather(numbered(shapes), GraphShapes(config()))
    assert batch.arrays["x"].tolist() == list(range(sum(naive(KINDS[0], shapes))))
    assert batch.rows == [shape[0] for shape in shapes]


@given(SHAPES)
def test_a_scattered_output_gets_the_shape_of_the_source(
    shapes: list[tuple[int, int, int]],
) -> None:
    rules = GraphShapes(config(batch_output=[{"target_name": ["y"], "source_input": ["x"]}]))
    requests = numbered(shapes)
    batch = gather(requests, rules)

    answers = scatter({"y": batch.arrays["x"] * 2}, batch.rows, rules, requests)

    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], request["x"] * 2, strict=True)


def test_a_scattered_output_takes_variable_dimensions_alone_from_the_source() -> None:
    output = {"name": "y", "dims": [-1, 2]}
    scattered = [{"target_name": ["y"], "source_input": ["x"]}]
    rules = GraphShapes(config(output=[output], batch_output=scattered))
    requests = numbered([(1, 3, 5), (2, 1, 7)])

    answers = scatter({"y": np.arange(10)}, [1, 2], rules, requests)

    assert answers[0]["y"].tolist() == [[[0, 1], [2, 3], [4, 5]]]
    assert answers[1]["y"].tolist() == [[[6, 7]], [[8, 9]]]


def test_an_output_that_is_not_scattered_is_cut_by_rows() -> None:
    rules = GraphShapes(config(batch_output=[{"target_name": ["y"], "source_input": ["x"]}]))
    requests = numbered([(1, 1, 1), (2, 1, 2)])

    answers = scatter({"z": np.arange(3), "y": np.arange(5)}, [1, 2], rules, requests)

    assert [answer["z"].tolist() for answer in answers] == [[0], [1, 2]]
    assert [answer["y"].tolist() for answer in answers] == [[[[0]]], [[[1, 2]], [[3, 4]]]]


def test_an_output_with_too_few_elements_is_the_models_fault() -> None:
    rules = GraphShapes(config(batch_output=[{"target_name": ["y"], "source_input": ["x"]}]))
    with pytest.raises(InternalError, match="'y' with 3 elements: expected 4 by the shapes of inp"):
        scatter({"y": np.arange(3)}, [1, 1], rules, numbered([(1, 1, 1), (1, 1, 3)]))


def test_a_reshaped_source_counts_in_the_shape_that_the_model_sees() -> None:
    source = {"name": "x", "dims": [-1, 4], "allow_ragged_batch": True}
    tensor = {**source, "reshape": {"shape": [-1, 2, 2]}}
    rules = GraphShapes(config(input=[tensor]))
    arrays = gather(numbered([(1, 3, 4), (1, 1, 4)]), rules).arrays
    assert arrays["BATCH_ITEM_SHAPE"].tolist() == [[3, 2, 2], [1, 2, 2]]
    assert arrays["x"].shape == (16,)


def test_ragged_strings_are_joined() -> None:
    requests: list[dict[str, Array]] = [
        {"x": np.array([[[b"a", b"bc"]]], dtype=object)},
        {"x": np.array([[[b""]]], dtype=object)},
    ]
    arrays = gather(requests, GraphShapes(config())).arrays
    assert arrays["x"].tolist() == [b"a", b"bc", b""]
    assert arrays["BATCH_ELEMENT_COUNT"].tolist() == [2, 1]


def test_a_plain_input_beside_a_ragged_one_is_joined_by_rows() -> None:
    tensors = [*config()["input"], {"name": "plain", "dims": [2]}]
    requests = [
        {**ragged, "plain": np.full((rows, 2), rows)}
        for ragged, rows in zip(numbered([(1, 1, 3), (2, 1, 1)]), (1, 2), strict=True)
    ]
    arrays = gather(requests, GraphShapes(config(input=tensors))).arrays
    assert arrays["plain"].tolist() == [[1, 1], [2, 2], [2, 2]]
    assert arrays["x"].shape == (5,)


def test_every_target_of_a_generated_input_is_filled() -> None:
    entry = {"target_name": ["a", "b"], "data_type": "TYPE_INT32", "source_input": ["x"]}
    arrays = gather(numbered([(1, 1, 3)]), GraphShapes(config(batch_input=[entry]))).arrays
    assert arrays["a"].tolist() == arrays["b"].tolist() == [3]


def test_without_batching_a_single_request_is_flat_too() -> None:
    rules = GraphShapes(config(max_batch_size=0))
    arrays = gather([{"x": np.zeros((2, 3), np.float32)}], rules).arrays
    assert arrays["x"].shape == (6,)
    assert arrays["BATCH_ELEMENT_COUNT"].tolist() == [6]


def test_a_missing_source_is_the_clients_fault() -> None:
    with pytest.raises(InvalidArgumentError, match="input 'x' is missing"):
        gather([{"other": np.zeros((1, 1))}], GraphShapes(config()))


def test_a_plain_model_has_no_rules() -> None:
    assert Ragged.of({"input": [{"name": "x", "dims": [2]}], "output": []}) is None
