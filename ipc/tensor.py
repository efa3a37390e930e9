"""A tensor: a name, a data type, a shape and the place where its bytes are."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from .dtypes import ELEMENT_SIZE, DataType

#: A tensor of at most this many bytes rides in the message; a larger one lies in an arena. Below
#: it, copying the bytes twice costs less than a lease, a release and the page they would occupy.
INLINE_LIMIT_BYTES = 16 * 1024

_LENGTH = struct.Struct("<I")


class Span(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Bytes of an arena that both processes have mapped.

    The arena is named by its number (descriptors.py tells how it gets across). Whoever allocated
    the span owns it: readers say when they are done, the writer alone frees.
    """

    arena: int
    offset: int
    size: int


class Region(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """Bytes of a region of shared memory that a client has registered.

    `region` is the number under which its descriptor got across, `offset` counts from the start of
    the client's segment. The client owns the bytes, and may change or remove them at any time.
    """

    region: int
    offset: int
    size: int


class CudaRegion(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """Bytes of a GPU's memory that a client has registered by the handle of its allocation.

    `region` is the number under which the handle got across, `offset` counts from the start of the
    allocation. The client owns the bytes, and may change them at any time.
    """

    region: int
    offset: int
    size: int


#: Where a client keeps a tensor itself.
ClientPlace = Region | CudaRegion

#: What a tensor's data may be.
Data = memoryview | Span | ClientPlace


class Tensor(msgspec.Struct, array_like=True, gc=False):
    """One tensor of a request or a response, ready to be sent to the other process.

    `shape` is what the client or the model said, batch dimension included. `data` is row-major and
    little-endian: the bytes themselves (borrowed: the exporter must outlive the tensor), the span
    that holds them, or the place in a client's region. BYTES elements are framed, each by its
    length as a uint32.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: Data

    @property
    def byte_size(self) -> int:
        """How many bytes the tensor occupies, wherever it is."""
        data = self.data
        return len(data) if isinstance(data, memoryview) else data.size


def element_count(shape: Iterable[int]) -> int:
    """The number of elements of a tensor; 1 for a scalar's empty shape."""
    return math.prod(shape)


def expected_byte_size(datatype: str, shape: Iterable[int]) -> int | None:
    """The bytes that a tensor must have, or None where only its elements know (BYTES)."""
    size = ELEMENT_SIZE.get(datatype)
    return None if size is None else size * math.prod(shape)


def encode_bytes(elements: Iterable[Any]) -> bytes:
    """Frame BYTES elements as the protocol does: a little-endian uint32 length, then the bytes.

    An element may be bytes, text (sent as UTF-8) or anything else (sent as its text).
    """
    parts: list[bytes] = []
    for element in elements:
        data = element if isinstance(element, bytes) else _as_bytes(element)
        parts.append(_LENGTH.pack(len(data)))
        parts.append(data)
    return b"".join(parts)


def _as_bytes(element: object) -> bytes:
    if isinstance(element, (bytearray, memoryview)):
        return bytes(cast("memoryview[int]", element))
    return str(element).encode()


class FramingError(ValueError):
    """Raised when BYTES elements do not fill their buffer exactly.

    The words around the tensor's name are Triton's; clients match on them.
    """

    def __init__(self, before: str, after: str, *, brief: bool = False) -> None:
        super().__init__(f"{before} tensor{after}")
        self._before = before
        self._after = after
        #: Names neither the request nor the model: Triton finds this mistake later than the others.
        self.brief = brief

    def about(self, name: str, model: str, request_id: str) -> str:
        """The message about this input of a request to this model."""
        subject = f"inference input '{name}'"
        if self.brief:
            return f"{self._before} {subject}{self._after}"
        prefix = f"[request id: {request_id or '<id_unknown>'}] "
        return f"{prefix}{self._before} {subject} for model '{model}'{self._after}"


def decode_bytes(data: memoryview | bytes, count: int) -> npt.NDArray[np.object_]:
    """Unframe `count` BYTES elements into a flat object array of bytes.

    Takes no more memory than the data do, whatever the count. Raises FramingError.
    """
    view = memoryview(data)
    end = len(view)
    elements: list[bytes] = []
    at = 0
    while at < end:
        start = at + 4
        if start > end:
            raise FramingError(
                "incomplete string length indicator for",
                f", expecting 4 bytes but only {end - at} bytes available. Please make sure the "
                "string length indicator is in one buffer.",
            )
        if len(elements) == count:
            raise FramingError(
                f"unexpected number of string elements {count + 1} for", f", expecting {count}"
            )
        (length,) = _LENGTH.unpack_from(view, at)
        at = start + length
        if at > end:
            raise FramingError(
                "incomplete string data for",
                f", expecting string of length {length} but only {end - start} bytes available",
                brief=True,
            )
        elements.append(bytes(view[start:at]))
    if len(elements) != count:
        raise FramingError(f"expected {count} string elements for", f", got {len(elements)}")
    array: npt.NDArray[np.object_] = np.empty(count, dtype=np.object_)
    array[:] = elements
    return array


def count_bytes(data: memoryview | bytes) -> int:
    """How many framed BYTES elements the data holds.

    Raises ValueError when the last one is cut off.
    """
    view = memoryview(data)
    end = len(view)
    at = count = 0
    while at < end:
        if at + 4 > end:
            raise ValueError(f"{end - at} bytes are left where a length of 4 bytes should stand")
        (length,) = _LENGTH.unpack_from(view, at)
        at += 4 + length
        if at > end:
            raise ValueError(
                f"string element {count} claims {length} bytes, but only "
                f"{end - at + length} are left"
            )
        count += 1
    return count
