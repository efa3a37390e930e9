"""Batches are joined without copying where they can be, and cut apart again."""

from __future__ import annotations

import mmap
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.worker.backend import Array
from tritonpy.worker.batch import GraphShapes, gather, scatter

BATCHING = GraphShapes({"max_batch_size": 8})
SINGLE = GraphShapes({"max_batch_size": 0})

ROW = 64 * 1024  # bytes; the least that is worth a view


def rows(*values: float, width: int = 4) -> Array:
    return np.repeat(np.array(values, np.float32)[:, None], width, axis=1)


def spans(count: int, dtype: Any = np.float32, gap: int = 0, readonly: bool = False) -> list[Array]:
    """Arrays of one row, one after the other in a mapping as requests lie in an arena."""
    arena = memoryview(mmap.mmap(-1, count * (ROW + gap)))
    if readonly:
        arena = arena.toreadonly()
    arrays: list[Array] = []
    for n in range(count):
        start = n * (ROW + gap)
        array: Array = np.frombuffer(arena[start : start + ROW], dtype).reshape(1, -1)
        if not readonly:
            array[:] = n
        arrays.append(array)
    return arrays


def test_a_single_request_is_not_copied() -> None:
    array = rows(1, 2, 3)
    batch = gather([{"x": array}], BATCHING)
    assert batch.arrays["x"] is array
    assert batch.rows == [3]


def test_a_model_without_batching_takes_one_request_as_it_is() -> None:
    array = rows(1, 2, 3)
    batch = gather([{"x": array}], SINGLE)
    assert batch.arrays["x"] is array
    assert batch.rows == [1]


def test_a_model_without_batching_refuses_two_requests() -> None:
    with pytest.raises(InternalError, match="without batching was handed 2 requests"):
        gather([{"x": rows(1)}, {"x": rows(2)}], SINGLE)


def test_requests_of_several_rows_are_joined_in_order() -> None:
    requests = [{"x": rows(1), "y": rows(10)}, {"x": rows(2, 3), "y": rows(20, 30)}]
    batch = gather(requests, BATCHING)
    assert batch.rows == [1, 2]
    np.testing.assert_array_equal(batch.arrays["x"], rows(1, 2, 3))
    np.testing.assert_array_equal(batch.arrays["y"], rows(10, 20, 30))


def test_strings_are_joined() -> None:
    requests = [
        {"s": np.array([[b"a", b""]], dtype=object)},
        {"s": np.array([[b"\xff", b"long" * 9]], dtype=object)},
    ]
    joined = gather(requests, BATCHING).arrays["s"]
    assert joined.tolist() == [[b"a", b""], [b"\xff", b"long" * 9]]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, ml_dtypes.bfloat16])
def test_adjacent_spans_become_one_view_without_copying(dtype: Any) -> None:
    arrays = spans(3, dtype)
    joined = gather([{"x": each} for each in arrays], BATCHING).arrays["x"]
    assert joined.shape == (3, arrays[0].size)
    assert joined.dtype == dtype
    assert all(np.shares_memory(joined[n], arrays[n]) for n in range(3))
    assert joined[:, 0].tolist() == [0, 1, 2]


def test_a_view_over_read_only_spans_is_read_only() -> None:
    joined = gather([{"x": each} for each in spans(2, readonly=True)], BATCHING).arrays["x"]
    assert not joined.flags.writeable
    assert not joined.flags.owndata


@pytest.mark.parametrize(
    "arrays",
    [spans(3, gap=64), spans(3)[::-1], [spans(3)[n] for n in (0, 2)]],
    ids=["gaps", "another order", "one missing"],
)
def test_spans_that_are_not_adjacent_are_copied(arrays: list[Array]) -> None:
    joined = gather([{"x": each} for each in arrays], BATCHING).arrays["x"]
    assert not np.shares_memory(joined, arrays[0])
    np.testing.assert_array_equal(joined, np.concatenate(arrays))


def test_adjacent_arrays_that_are_not_contiguous_are_copied() -> None:
    whole = np.arange(4 * ROW, dtype=np.float32).reshape(4, -1)
    arrays = [whole[0:2, ::2], whole[2:4, ::2]]
    joined = gather([{"x": each} for each in arrays], BATCHING).arrays["x"]
    np.testing.assert_array_equal(joined, whole[:, ::2])


def test_requests_with_other_inputs_do_not_share_a_batch() -> None:
    with pytest.raises(InternalError, match="different inputs: 'x' and 'x', 'y'"):
        gather([{"x": rows(1)}, {"x": rows(1), "y": rows(1)}], BATCHING)


@pytest.mark.parametrize("other", [rows(1, width=5), rows(1).astype(np.float64), rows(1)[None]])
def test_requests_with_other_shapes_do_not_share_a_batch(other: Array) -> None:
    with pytest.raises(InternalError, match="different 'x' inputs"):
        gather([{"x": rows(1)}, {"x": other}], BATCHING)


def test_inputs_of_one_request_must_agree_on_the_batch_size() -> None:
    with pytest.raises(InternalError, match="'y' has batch size 1, the inputs before it have 2"):
        gather([{"x": rows(1, 2), "y": rows(1)}], BATCHING)


def test_an_input_without_a_batch_dimension_is_refused() -> None:
    with pytest.raises(InternalError, match="'x' has no batch dimension"):
        gather([{"x": np.array(1.0)}], BATCHING)


def test_outputs_are_cut_into_views_of_each_request() -> None:
    outputs = {"y": rows(1, 2, 3), "s": np.array([b"a", b"b", b"c"], dtype=object)}
    first, second = scatter(outputs, [1, 2], BATCHING)
    assert first["y"].tolist() == rows(1).tolist()
    assert second["y"].tolist() == rows(2, 3).tolist()
    assert second["s"].tolist() == [b"b", b"c"]
    assert np.shares_memory(second["y"], outputs["y"])


def test_the_outputs_of_a_model_without_batching_are_left_alone() -> None:
    outputs = {"y": np.array(1.0)}
    assert scatter(outputs, [1], SINGLE) == [outputs]


@pytest.mark.parametrize("bad", [rows(1, 2), np.array(1.0, np.float32)])
def test_a_wrong_batch_dimension_of_an_output_is_the_models_fault(bad: Array) -> None:
    with pytest.raises(InternalError, match=r"output 'y' with shape \[.*\] for a batch of 3"):
        scatter({"y": bad}, [1, 2], BATCHING)


# --- reshape --------------------------------------------------------------------------------------


def reshaped(dims: list[int], shape: list[int], max_batch_size: int = 0) -> GraphShapes:
    tensor = {"name": "t", "dims": dims, "reshape": {"shape": shape}}
    return GraphShapes({"max_batch_size": max_batch_size, "input": [tensor], "output": [tensor]})


@pytest.mark.parametrize(
    ("dims", "shape", "client", "graph"),
    [
        ([16], [4, 4], (16,), (4, 4)),
        ([4, 2], [1, 2, 4, 1], (4, 2), (1, 2, 4, 1)),
        ([-1, 4], [-1, 2, 2], (7, 4), (7, 2, 2)),
        ([1, -1, -1], [-1, 1, -1], (1, 2, 3), (2, 1, 3)),
    ],
)
def test_reshape_maps_between_the_clients_shape_and_the_graphs(
    dims: list[int], shape: list[int], client: tuple[int, ...], graph: tuple[int, ...]
) -> None:
    shapes = reshaped(dims, shape)
    array = np.arange(np.prod(client), dtype=np.int32).reshape(client)
    inputs = gather([{"t": array}], shapes).arrays
    assert inputs["t"].shape == graph
    assert np.shares_memory(inputs["t"], array)
    (outputs,) = scatter(inputs, [1], shapes)
    np.testing.assert_array_equal(outputs["t"], array)


def test_reshape_leaves_the_batch_dimension_alone() -> None:
    shapes = reshaped([1], [], max_batch_size=4)
    batch = gather([{"t": np.zeros((2, 1))}, {"t": np.ones((1, 1))}], shapes)
    assert batch.arrays["t"].shape == (3,)
    outputs = scatter(batch.arrays, batch.rows, shapes)
    assert [each["t"].shape for each in outputs] == [(2, 1), (1, 1)]


def test_an_absent_optional_tensor_is_not_reshaped() -> None:
    assert gather([{"other": rows(1)}], reshaped([4], [2, 2])).arrays.keys() == {"other"}


def test_an_input_that_cannot_be_reshaped_is_the_clients_fault() -> None:
    with pytest.raises(InvalidArgumentError, match="unable to reshape input 't'"):
        gather([{"t": np.zeros((2, 2))}], reshaped([4], [2, 2]))


def test_an_output_that_cannot_be_reshaped_is_the_models_fault() -> None:
    with pytest.raises(InternalError, match="unable to reshape output 't'"):
        scatter({"t": np.zeros(5)}, [1], reshaped([4], [2, 2]))
