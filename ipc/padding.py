"""The parameter `padding`: which dimensions of a model are filled up to sizes that can be batched.

    { "axes":    { "tokens": { "buckets": [16, 64], "mask": { "name": "mask" } } },
      "inputs":  { "ids":    { "axes": ["tokens"], "value": 0 } },
      "outputs": { "scores": ["tokens", null] } }

An axis is a variable dimension that several tensors share. The supervisor sorts requests by it, the
worker fills and cuts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import msgspec

from .errors import InvalidArgumentError

#: The key of the parameter.
PARAMETER = "padding"


class Generated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input that the server makes; `data_type` is written as in a configuration."""

    name: str
    data_type: str = "TYPE_INT64"


class Axis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variable dimension. `buckets` are the sizes that it is filled up to, ascending.

    `mask` is [rows, size] with 1 for what a request brought and 0 for what was filled in, `length`
    is [rows] with what it brought.
    """

    buckets: list[int]
    mask: Optional[Generated] = None  # noqa: UP045 (msgspec reads it, on Python 3.10 too)
    length: Optional[Generated] = None  # noqa: UP045

    def bucket(self, extent: int) -> int | None:
        """The smallest size that this fits into, None where it is too long."""
        index = bisect_left(self.buckets, extent)
        return self.buckets[index] if index < len(self.buckets) else None


class PaddedInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The axis of each dimension, None for one that is left alone, and what is filled in."""

    axes: list[Optional[str]]  # noqa: UP045
    value: Union[bool, int, float, str, None] = None  # noqa: UP007


class Padding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole parameter. Outputs have the axis of each dimension, as inputs have."""

    axes: dict[str, Axis]
    inputs: dict[str, PaddedInput]
    outputs: dict[str, list[Optional[str]]] = {}  # noqa: UP045

    @property
    def generated(self) -> list[Generated]:
        """All inputs that are made."""
        each = [made for axis in self.axes.values() for made in (axis.mask, axis.length)]
        return [made for made in each if made is not None]


_DECODER = msgspec.json.Decoder(Padding)


def parse(text: str) -> Padding:
    """Read the parameter, without a look at the names in it. Raises InvalidArgumentError."""
    try:
        return _DECODER.decode(text)
    except msgspec.MsgspecError as error:
        raise InvalidArgumentError(
            f"the parameter '{PARAMETER}' is not as expected: {error}"
        ) from None


def of_parameters(parameters: Mapping[str, Any]) -> Padding | None:
    """The padding that a configuration in JSON's form asks for. Raises InvalidArgumentError."""
    given = parameters.get(PARAMETER)
    return None if given is None else parse(str(given.get("string_value", "")))


def extents(axes: Sequence[str | None], shape: Sequence[int]) -> dict[str, int]:
    """How long each axis is in a tensor of this shape, both without the batch."""
    return {axis: extent for axis, extent in zip(axes, shape, strict=True) if axis is not None}
