"""Ragged batches: requests of different shapes joined element by element.

A ragged input reaches the model as one row of elements, those of the first request before those of
the second. What a model needs to find its way in there is computed here as further inputs
(`batch_input`), and a flat output is cut apart by the shapes of an input (`batch_output`):

    request 0  [1, 3]  a b c          joined    [5]  a b c d e
    request 1  [1, 2]  d e            BATCH_ELEMENT_COUNT [2]  3 2

Pure functions over numpy arrays. Shapes are those that the model sees, with the batch in front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..ipc.dtypes import from_config, numpy_dtype
from ..ipc.errors import InternalError, InvalidArgumentError
from .backend import Array
from .copies import COPIES
from .reshape import Reshape, reshaped, reshapes

#: The shapes of one input in all requests of a batch.
_Shapes = Sequence[tuple[int, ...]]


class _BatchInput(NamedTuple):
    """Inputs that are computed from the shapes of another one."""

    targets: tuple[str, ...]
    compute: Callable[[_Shapes], Array]
    dtype: np.dtype[Any]
    source: str


class _BatchOutput(NamedTuple):
    """How an output is cut; each -1 of the shape is taken from the source at the same place."""

    shape: tuple[int, ...]
    source: str


class Ragged:
    """What a configuration says about ragged inputs and generated tensors."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        inputs: list[dict[str, Any]] = config.get("input") or []
        #: The inputs that are joined to one row of elements.
        self.inputs = frozenset(each["name"] for each in inputs if each.get("allow_ragged_batch"))
        self._batching = int(config.get("max_batch_size") or 0) > 0
        self._reshapes = reshapes(inputs)
        self._generated = [_batch_input(each) for each in config.get("batch_input") or ()]
        self._scattered = _batch_outputs(config, self._batching)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Ragged | None:
        """The rules of a configuration, None for the many that have nothing of the kind."""
        ragged = any(each.get("allow_ragged_batch") for each in config.get("input") or ())
        some = ragged or config.get("batch_input") or config.get("batch_output")
        return cls(config) if some else None

    @property
    def scattered(self) -> Iterable[str]:
        """The outputs that are cut by the shapes of an input, and not by rows."""
        return self._scattered.keys()

    def generate(self, requests: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """The inputs that are computed from the requests', which are in the clients' shapes.

        Raises InvalidArgumentError when a request lacks the input that one is computed from.
        """
        generated: dict[str, Array] = {}
        for each in self._generated:
            shapes = [self._shape(each.source, inputs) for inputs in requests]
            array = each.compute(shapes).astype(each.dtype)
            generated.update(dict.fromkeys(each.targets, array))
        return generated

    def scatter(
        self, name: str, array: Array, requests: Sequence[Mapping[str, Array]]
    ) -> list[Array]:
        """Cut an output into one view for each request. What the model returned beyond them goes.

        Raises InternalError when the output has too few elements.
        """
        rule = self._scattered[name]
        shapes = [_filled(rule.shape, self._shape(rule.source, each)) for each in requests]
        needed = sum(math.prod(shape) for shape in shapes)
        if array.size < needed:
            raise InternalError(
                f"the model returned output '{name}' with {array.size} elements: expected {needed} "
                f"by the shapes of input '{rule.source}'"
            )
        flat = array.reshape(-1)
        pieces: list[Array] = []
        start = 0
        for shape in shapes:
            end = start + math.prod(shape)
            pieces.append(flat[start:end].reshape(shape))
            start = end
        return pieces

    def _shape(self, name: str, inputs: Mapping[str, Array]) -> tuple[int, ...]:
        array = inputs.get(name)
        if array is None:
            raise InvalidArgumentError(
                f"input '{name}' is missing, from which other tensors of the model are computed"
            )
        reshape: Reshape | None = self._reshapes.get(name)
        if reshape is None:
            return array.shape
        return reshaped(array.shape, reshape.dims, reshape.shape, self._batching)


def join_elements(arrays: Sequence[Array]) -> Array:
    """All elements of the arrays, one after the other; a view where there is one array."""
    if len(arrays) == 1:
        return arrays[0].reshape(-1)
    joined: Array = np.concatenate([array.reshape(-1) for array in arrays])
    COPIES.joined += joined.nbytes
    return joined


def _filled(shape: Sequence[int], source: Sequence[int]) -> tuple[int, ...]:
    """The shape with each -1 taken from the same place of the source."""
    return tuple(source[index] if extent == -1 else extent for index, extent in enumerate(shape))


# --- the kinds of batch_input ---------------------------------------------------------------------


def _counts(shapes: _Shapes) -> Array:
    """[requests]: how many elements each has, its batch included."""
    return np.array([math.prod(shape) for shape in shapes], np.int64)


def _accumulated(shapes: _Shapes) -> Array:
    """[requests]: how many elements there are up to the end of each."""
    totals: Array = np.cumsum(_counts(shapes))
    return totals


def _accumulated_with_zero(shapes: _Shapes) -> Array:
    """[requests + 1]: where each begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), _accumulated(shapes)])


def _max_as_shape(shapes: _Shapes) -> Array:
    """[elements of the largest request]: only the shape means something."""
    return np.zeros(max(math.prod(shape) for shape in shapes), np.int64)


def _item_shape(shapes: _Shapes) -> Array:
    """[rows of the batch, rank]: the shape of each row."""
    items = np.array([shape[1:] for shape in shapes], np.int64)
    return np.repeat(items, [shape[0] for shape in shapes], axis=0)


def _item_shape_flatten(shapes: _Shapes) -> Array:
    """[rows of the batch * rank]: the shapes of all rows, one after the other."""
    return _item_shape(shapes).reshape(-1)


_KINDS: dict[str, Callable[[_Shapes], Array]] = {
    "BATCH_ELEMENT_COUNT": _counts,
    "BATCH_ACCUMULATED_ELEMENT_COUNT": _accumulated,
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": _accumulated_with_zero,
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": _max_as_shape,
    "BATCH_ITEM_SHAPE": _item_shape,
    "BATCH_ITEM_SHAPE_FLATTEN": _item_shape_flatten,
}


def _batch_input(entry: Mapping[str, Any]) -> _BatchInput:
    compute = _KINDS[entry.get("kind", "BATCH_ELEMENT_COUNT")]
    dtype = numpy_dtype(from_config(entry["data_type"]))
    return _BatchInput(tuple(entry["target_name"]), compute, dtype, entry["source_input"][0])


def _batch_outputs(config: Mapping[str, Any], batching: bool) -> dict[str, _BatchOutput]:
    outputs = {output["name"]: output for output in config.get("output") or ()}
    found: dict[str, _BatchOutput] = {}
    for entry in config.get("batch_output") or ():
        for name in entry["target_name"]:
            reshape = outputs[name].get("reshape")
            dims = tuple(outputs[name]["dims"] if reshape is None else reshape.get("shape", ()))
            shape = (-1, *dims) if batching else dims
            found[name] = _BatchOutput(shape, entry["source_input"][0])
    return found
