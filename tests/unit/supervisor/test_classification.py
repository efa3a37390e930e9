"""The classification extension: ranking, labels, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.dtypes import numpy_dtype
from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.ipc.tensor import Tensor, decode_bytes
from tritonpy.supervisor.classification import classify


def scores(datatype: Any, values: Any) -> Tensor:
    array = np.array(values, numpy_dtype(datatype))
    return Tensor("OUT", datatype, array.shape, memoryview(array.tobytes()))


def entries(tensor: Tensor) -> list[str]:
    assert tensor.datatype == "BYTES"
    assert isinstance(tensor.data, memoryview)
    return [one.decode() for one in decode_bytes(tensor.data, int(np.prod(tensor.shape)))]


def test_the_best_come_first_with_six_decimals() -> None:
    result = classify(scores("FP32", [0.5, 6, -1, 2.25]), 2, False, [])
    assert (result.name, result.shape) == ("OUT", (2,))
    assert entries(result) == ["6.000000:1", "2.250000:3"]


def test_integers_are_printed_plainly() -> None:
    assert entries(classify(scores("UINT64", [1, 2**64 - 1]), 1, False, [])) == [f"{2**64 - 1}:1"]
    assert entries(classify(scores("INT8", [-128, -3]), 2, False, [])) == ["-3:1", "-128:0"]


def test_labels_follow_the_index_where_there_are_any() -> None:
    result = classify(scores("FP64", [1, 3, 2]), 3, False, ["cat", ""])
    assert entries(result) == ["3.000000:1", "2.000000:2", "1.000000:0:cat"]


def test_each_row_of_a_batch_is_ranked_by_itself() -> None:
    result = classify(scores("INT32", [[1, 2, 3], [9, 8, 7]]), 2, True, ["a", "b", "c"])
    assert result.shape == (2, 2)
    assert entries(result) == ["3:2:c", "2:1:b", "9:0:a", "8:1:b"]


def test_without_batching_all_dimensions_are_one_ranking() -> None:
    result = classify(scores("INT32", [[1, 2], [4, 3]]), 2, False, [])
    assert (result.shape, entries(result)) == ((2,), ["4:2", "3:3"])


def test_more_classes_than_scores_are_cut_down() -> None:
    assert classify(scores("FP32", [[1, 2]]), 10, True, []).shape == (1, 2)


@pytest.mark.parametrize(("shape", "expected"), [((0,), (0,)), ((2, 0), (2, 0)), ((0, 3), (0,))])
def test_nothing_to_rank_gives_nothing(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    result = classify(Tensor("OUT", "FP32", shape, memoryview(b"")), 2, True, [])
    assert (result.shape, result.byte_size) == (expected, 0)


def test_equal_scores_rank_by_index_and_what_is_no_number_first() -> None:
    result = classify(scores("FP32", [np.nan, 1, np.inf, 1, -np.inf, 1]), 6, False, [])
    assert [one.split(":")[1] for one in entries(result)] == ["0", "2", "1", "3", "5", "4"]
    assert entries(result)[1] == "inf:2"
    best = classify(scores("FP32", [3, np.nan, 5, 4]), 2, False, [])
    assert entries(best) == ["nan:1", "5.000000:2"]


@pytest.mark.parametrize("datatype", ["BOOL", "FP16", "BF16", "BYTES"])
def test_types_without_ranking_are_refused(datatype: Any) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        classify(Tensor("OUT", datatype, (1,), memoryview(b"\0\0\0\0")), 1, False, [])
    assert error.value.message == (
        f"class result not available for output due to unsupported type '{datatype}'"
    )


def test_a_million_scores_are_the_limit_for_each_row() -> None:
    million = Tensor("OUT", "INT8", (2, 1_000_000), memoryview(bytes(2_000_000)))
    assert entries(classify(million, 1, True, [])) == ["0:0", "0:0"]
    with pytest.raises(InvalidArgumentError, match="classification output tensor too large"):
        classify(million, 1, False, [])


def test_an_output_that_does_not_match_its_shape_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="output 'OUT' has 3 bytes"):
        classify(Tensor("OUT", "FP32", (1,), memoryview(b"abc")), 1, False, [])


@given(st.lists(st.integers(-128, 127), min_size=1), st.integers(1, 10))
def test_the_ranking_is_that_of_a_plain_sort(values: list[int], classes: int) -> None:
    ranked = sorted(range(len(values)), key=lambda index: (-values[index], index))
    result = classify(scores("INT8", values), classes, False, [])
    assert entries(result) == [f"{values[index]}:{index}" for index in ranked[:classes]]
