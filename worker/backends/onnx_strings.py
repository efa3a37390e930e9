"""BYTES as ONNX Runtime takes strings through numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ipc.errors import InvalidArgumentError
from ..backend import Array

#: Bytes that are no text travel in an array whose elements are all as wide as the longest.
_MOST_RAW_BYTES = 64 * 1024 * 1024


def to_strings(model: str, name: str, array: Array) -> Array:
    """The elements as text, or as raw bytes where they are not UTF-8, which Triton passes too.

    The library would turn b"x" in an object array into the text "b'x'" without a word. Raises
    InvalidArgumentError for what neither form can hold.
    """
    elements: list[Any] = array.reshape(-1).tolist()
    text: Array = np.empty(array.size, dtype=np.object_)
    try:
        text[:] = [each.decode() if isinstance(each, bytes) else str(each) for each in elements]
    except UnicodeDecodeError as error:
        raw = _raw(elements)
        if raw is None:
            raise InvalidArgumentError(
                f"model '{model}', input '{name}': an element is not UTF-8 text ({error}), and the "
                f"input has a zero byte or is too large to be passed as it is"
            ) from None
        return raw.reshape(array.shape)
    return text.reshape(array.shape)


def _raw(elements: list[Any]) -> Array | None:
    """An array of fixed width; the library reads each element to its first zero byte."""
    encoded = [each if isinstance(each, bytes) else str(each).encode() for each in elements]
    # One more than the longest: without a zero byte the library would read on into the next.
    width = max(map(len, encoded)) + 1
    if any(b"\0" in each for each in encoded) or width * len(encoded) > _MOST_RAW_BYTES:
        return None
    return np.array(encoded, dtype=f"S{width}")
