"""Filling inputs up to a common length, and cutting outputs back to each request's own.

Pure functions over numpy arrays in the clients' shapes. Nothing here is looked at by models
without the parameter `padding`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ipc import padding
from ..ipc.dtypes import from_config, numpy_dtype
from ..ipc.errors import InternalError, InvalidArgumentError
from .backend import Array
from .copies import COPIES

#: How long each axis is.
Lengths = Mapping[str, int]


class Padder:
    """What a configuration says about padding."""

    def __init__(self, rules: padding.Padding, config: Mapping[str, Any]) -> None:
        self._rules = rules
        self._batching = int(config.get("max_batch_size") or 0) > 0
        self._skip = 1 if self._batching else 0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Padder | None:
        """The rules of a configuration, None for the many without the parameter."""
        rules = padding.of_parameters(config.get("parameters") or {})
        return None if rules is None else cls(rules, config)

    @property
    def inputs(self) -> Mapping[str, padding.PaddedInput]:
        """The inputs that are filled up."""
        return self._rules.inputs

    def lengths(self, requests: Sequence[Mapping[str, Array]]) -> list[Lengths]:
        """How long the axes of each request are."""
        found: list[Lengths] = []
        for inputs in requests:
            own: dict[str, int] = {}
            for name, rule in self._rules.inputs.items():
                own.update(padding.extents(rule.axes, inputs[name].shape[self._skip :]))
            found.append(own)
        return found

    def buckets(self, lengths: Sequence[Lengths]) -> Lengths:
        """What the axes are filled up to. Raises InvalidArgumentError for what is too long."""
        chosen: dict[str, int] = {}
        for name, axis in self._rules.axes.items():
            longest = max(own[name] for own in lengths)
            bucket = axis.bucket(longest)
            if bucket is None:
                raise InvalidArgumentError(
                    f"axis '{name}' is {longest} long, the largest bucket is {axis.buckets[-1]}"
                )
            chosen[name] = bucket
        return chosen

    def join(self, name: str, arrays: Sequence[Array], buckets: Lengths) -> Array:
        """One array of all rows, filled up; a copy, unless one array is as long already."""
        rule, skip = self._rules.inputs[name], self._skip
        first = arrays[0]
        full = tuple(
            extent if axis is None else buckets[axis]
            for axis, extent in zip(rule.axes, first.shape[skip:], strict=True)
        )
        if len(arrays) == 1 and first.shape[skip:] == full:
            return first
        rows = (sum(len(array) for array in arrays),) if self._batching else ()
        joined: Array = np.full(rows + full, _filling(rule.value, first.dtype), first.dtype)
        COPIES.joined += joined.nbytes
        start = 0
        for array in arrays:
            own = tuple(slice(extent) for extent in array.shape[skip:])
            end = start + len(array)
            joined[(slice(start, end), *own) if self._batching else own] = array
            start = end
        return joined

    def generate(
        self, lengths: Sequence[Lengths], rows: Sequence[int], buckets: Lengths
    ) -> dict[str, Array]:
        """The masks and lengths of the batch."""
        made: dict[str, Array] = {}
        for name, axis in self._rules.axes.items():
            own = np.repeat([each[name] for each in lengths], rows)
            if axis.length is not None:
                made[axis.length.name] = own.astype(_dtype(axis.length))
            if axis.mask is not None:
                mask = np.arange(buckets[name]) < own[:, None]
                made[axis.mask.name] = (mask if self._batching else mask[0]).astype(
                    _dtype(axis.mask)
                )
        return made

    def cut(
        self, outputs: Mapping[str, Array], lengths: Lengths, buckets: Lengths
    ) -> dict[str, Array]:
        """The outputs of one request without what belongs to the filling; views.

        Raises InternalError when an output is not as long as the inputs were made.
        """
        answer = dict(outputs)
        for name, axes in self._rules.outputs.items():
            array = outputs.get(name)
            if array is None:
                continue
            shape = array.shape[self._skip :]
            if len(shape) != len(axes) or any(
                axis is not None and extent != buckets[axis]
                for axis, extent in zip(axes, shape, strict=True)
            ):
                wanted = [-1 if axis is None else buckets[axis] for axis in axes]
                raise InternalError(
                    f"the model returned output '{name}' with shape {list(shape)}, expected "
                    f"{wanted}, as its inputs were padded"
                )
            own = [slice(None if axis is None else lengths[axis]) for axis in axes]
            answer[name] = array[(*[slice(None)] * self._skip, *own)]
        return answer


def _filling(value: bool | int | float | str | None, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "O":
        return str(value or "").encode()
    return value or 0


def _dtype(made: padding.Generated) -> np.dtype[Any]:
    return numpy_dtype(from_config(made.data_type))
