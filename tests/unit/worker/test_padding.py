"""Padding against plain loops over rows."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.worker.backend import Array
from tritonpy.worker.batch import GraphShapes, gather, scatter
from tritonpy.worker.padding import Padder

RULES: dict[str, Any] = {
    "axes": {
        "h": {"buckets": [2, 4], "mask": {"name": "mask", "data_type": "TYPE_BOOL"}},
        "w": {"buckets": [3, 5], "length": {"name": "width"}},
    },
    "inputs": {
        "image": {"axes": ["h", None, "w"], "value": -1},
        "row": {"axes": ["w"], "value": 7},
    },
    "outputs": {"image_out": ["h", None, "w"]},
}


def shapes(max_batch_size: int = 64, rules: dict[str, Any] = RULES, **more: Any) -> GraphShapes:
    parameters = {"padding": {"string_value": json.dumps(rules)}}
    return GraphShapes({"max_batch_size": max_batch_size, "parameters": parameters, **more})


@st.composite
def batches(draw: st.DrawFn) -> list[dict[str, Array]]:
    requests: list[dict[str, Array]] = []
    for number in range(draw(st.integers(1, 4))):
        rows, high, wide = (draw(st.integers(low, most)) for low, most in ((1, 3), (0, 4), (0, 5)))
        image = np.arange(rows * high * 2 * wide).reshape(rows, high, 2, wide) + 1000 * number
        requests.append(
            {"image": image, "row": np.full((rows, wide), number), "plain": np.full((rows, 1), 5)}
        )
    return requests


def bucket(extent: int, sizes: list[int]) -> int:
    return min(size for size in sizes if size >= extent)


@given(batches())
def test_each_row_lies_in_the_corner_of_what_is_filled(requests: list[dict[str, Array]]) -> None:
    batch = gather(requests, shapes())

    high = bucket(max(each["image"].shape[1] for each in requests), [2, 4])
    wide = bucket(max(each["image"].shape[3] for each in requests), [3, 5])
    position = 0
    for inputs in requests:
        image = inputs["image"]
        for row in range(image.shape[0]):
            for y in range(high):
                inside_y = y < image.shape[1]
                assert batch.arrays["mask"][position, y] == inside_y
                for x in range(wide):
                    inside = inside_y and x < image.shape[3]
                    expected = image[row, y, :, x].tolist() if inside else [-1, -1]
                    assert batch.arrays["image"][position, y, :, x].tolist() == expected
            assert batch.arrays["width"][position] == image.shape[3]
            position += 1
    assert batch.arrays["image"].shape == (position, high, 2, wide)
    assert batch.arrays["row"].shape == (position, wide)
    assert batch.arrays["plain"].shape == (position, 1)
    assert batch.arrays["mask"].dtype == np.bool_
    assert batch.arrays["width"].dtype == np.int64


@given(batches())
def test_outputs_are_cut_back_to_each_requests_own_size(requests: list[dict[str, Array]]) -> None:
    rules = shapes()
    batch = gather(requests, rules)
    outputs = {"image_out": batch.arrays["image"] * 2, "row_out": batch.arrays["row"]}

    answers = scatter(outputs, batch.rows, rules, requests)

    for inputs, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer["image_out"], inputs["image"] * 2, strict=True)
        assert answer["row_out"].shape[1] in (3, 5)  # not named among the outputs


ONE = {"axes": {"n": {"buckets": [4]}}, "inputs": {"x": {"axes": ["n"]}}, "outputs": {"y": ["n"]}}


def test_what_is_as_long_as_its_bucket_is_not_copied() -> None:
    array = np.ones((2, 4), np.float32)
    assert gather([{"x": array}], shapes(rules=ONE)).arrays["x"] is array


@pytest.mark.parametrize(
    ("array", "value", "expected"),
    [
        (np.array([[b"a"]], dtype=object), None, [[b"a", b"", b"", b""]]),
        (np.array([[b"a"]], dtype=object), "pad", [[b"a", b"pad", b"pad", b"pad"]]),
        (np.array([[True]]), True, [[True] * 4]),
        (np.array([[1]], np.uint8), None, [[1, 0, 0, 0]]),
        (np.array([[1]], ml_dtypes.bfloat16), 0.5, [[1, 0.5, 0.5, 0.5]]),
    ],
)
def test_every_datatype_is_filled(array: Array, value: object, expected: object) -> None:
    rules = {**ONE, "inputs": {"x": {"axes": ["n"], "value": value}}}
    padded = gather([{"x": array}], shapes(rules=rules)).arrays["x"]
    assert padded.tolist() == expected
    assert padded.dtype == array.dtype


def test_without_batching_masks_and_lengths_have_no_rows() -> None:
    axis = {"buckets": [4], "mask": {"name": "m"}, "length": {"name": "l"}}
    rules = shapes(0, {**ONE, "axes": {"n": axis}})
    requests = [{"x": np.ones(3)}]
    batch = gather(requests, rules)
    assert batch.arrays["x"].tolist() == [1, 1, 1, 0]
    assert batch.arrays["m"].tolist() == [1, 1, 1, 0]
    assert batch.arrays["l"].tolist() == [3]
    answer = scatter({"y": batch.arrays["x"]}, batch.rows, rules, requests)
    assert answer[0]["y"].tolist() == [1, 1, 1]


def test_a_padded_input_is_reshaped_afterwards_and_an_output_cut_afterwards() -> None:
    tensor = {"dims": [-1], "reshape": {"shape": [-1, 1]}}
    rules = shapes(rules=ONE, input=[{"name": "x", **tensor}], output=[{"name": "y", **tensor}])
    requests = [{"x": np.ones((1, 2))}, {"x": np.ones((1, 3))}]
    batch = gather(requests, rules)
    assert batch.arrays["x"].shape == (2, 4, 1)
    answers = scatter({"y": batch.arrays["x"]}, batch.rows, rules, requests)
    assert [answer["y"].shape for answer in answers] == [(1, 2), (1, 3)]


def test_an_output_of_another_size_is_the_models_fault() -> None:
    with pytest.raises(InternalError, match=r"'y' with shape \[3\], expected \[4\], as its inputs"):
        scatter({"y": np.ones((1, 3))}, [1], shapes(rules=ONE), [{"x": np.ones((1, 3))}])


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="axis 'n' is 5 long, the largest bucket is 4"):
        gather([{"x": np.ones((1, 5))}], shapes(rules=ONE))


def test_a_plain_model_has_no_rules() -> None:
    assert Padder.of({"parameters": {"other": {"string_value": "x"}}}) is None
