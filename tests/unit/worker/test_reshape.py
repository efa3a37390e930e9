"""Outputs in the model's shape get the clients'; those of python models may have it already."""

from __future__ import annotations

import numpy as np
import pytest

from tritonpy.ipc.errors import InternalError
from tritonpy.worker.reshape import Reshape, from_graph_shape

FIXED = Reshape((2, 3), (6,))
VARIABLE = Reshape((1, -1), (-1,))


@pytest.mark.parametrize(
    ("reshape", "batching", "given", "expected"),
    [
        (FIXED, False, (6,), (2, 3)),
        (FIXED, False, (2, 3), (2, 3)),
        (FIXED, True, (4, 6), (4, 2, 3)),
        (FIXED, True, (4, 2, 3), (4, 2, 3)),
        (VARIABLE, False, (5,), (1, 5)),
        (VARIABLE, False, (1, 5), (1, 5)),
        (VARIABLE, True, (4, 5), (4, 1, 5)),
        (VARIABLE, True, (4, 1, 5), (4, 1, 5)),
        (Reshape((-1, 1), (1, -1)), True, (4, 1, 5), (4, 5, 1)),
        (Reshape((1,), ()), True, (4,), (4, 1)),
    ],
)
def test_an_output_gets_the_clients_shape_or_has_it(
    reshape: Reshape, batching: bool, given: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    output = np.arange(np.prod(given)).reshape(given)

    found = from_graph_shape({"OUT": output}, {"OUT": reshape}, batching)["OUT"]

    assert found.shape == expected
    np.testing.assert_array_equal(found.ravel(), output.ravel())


@pytest.mark.parametrize(
    ("reshape", "given"), [(FIXED, (5,)), (VARIABLE, (2, 5)), (VARIABLE, (1, 1, 5))]
)
def test_an_output_of_neither_shape_is_an_error(reshape: Reshape, given: tuple[int, ...]) -> None:
    with pytest.raises(InternalError, match="unable to reshape output 'OUT'"):
        from_graph_shape({"OUT": np.zeros(given)}, {"OUT": reshape}, batching=False)


def test_without_a_reshape_the_outputs_are_left_alone() -> None:
    outputs = {"OUT": np.zeros(3)}
    assert from_graph_shape(outputs, {}, batching=True) is outputs
