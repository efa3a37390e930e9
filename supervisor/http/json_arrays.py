"""Large documents, whose tensors are long lists of numbers, read by simdjson where it is installed:
it fills an array without making an object of each number.

It takes the common case only. Whatever it does not take is for the readers that come after it,
which know Triton's words for what is wrong.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from .json_tensor import MAX_NESTING

#: Below this size an object for each number costs less than the way through numpy.
LEAST_BYTES = 8 * 1024

#: simdjson counts to an entry from the first one.
_MOST_INPUTS = 64

#: How simdjson is asked for the numbers of a data type, and what it then gives.
_KINDS: dict[str, tuple[str, type[Any]]] = {
    **dict.fromkeys(("FP16", "BF16", "FP32", "FP64"), ("d", np.float64)),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), ("i", np.int64)),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64"), ("u", np.uint64)),
}


def read(data: bytes | memoryview) -> dict[str, Any] | None:
    """The members of a document, with an array for each list of numbers that is an input's `data`.

    None for what is to be read by somebody else.
    """
    library = _simdjson()
    if library is None or _nests_deep(data):
        return None
    try:
        root = library.Parser().parse(data)
        if not isinstance(root, library.Object):
            return None
        members = _members(library, root)
        entries: Any = None if members is None else members.get("inputs")
        if members is None or not isinstance(entries, library.Array) or len(entries) > _MOST_INPUTS:
            return None
        inputs: list[Any] = []
        for index in range(len(entries)):  # to iterate would make objects of the numbers
            entry = _input(library, entries[index])
            if entry is None:
                return None
            inputs.append(entry)
        members["inputs"] = inputs
        return {name: _plain(library, value) for name, value in members.items()}
    except (ValueError, TypeError, RuntimeError):  # wrong, or merely not the common case
        return None


def _input(library: Any, entry: Any) -> dict[str, Any] | None:
    members = _members(library, entry) if isinstance(entry, library.Object) else None
    if members is None:
        return None
    plain = {name: _plain(library, value) for name, value in members.items() if name != "data"}
    if "data" not in members:
        return plain
    data = members["data"]
    kind = _KINDS.get(str(members.get("datatype")))
    if kind is None or not isinstance(data, library.Array):
        return None
    code, dtype = kind
    numbers: npt.NDArray[Any] = np.frombuffer(data.as_buffer(of_type=code), dtype)
    plain["data"] = numbers
    return plain


def _members(library: Any, value: Any) -> dict[str, Any] | None:
    """The members of an object; None where two have one name, of which others take the last."""
    names = list(value.keys())
    found = {name: value[name] for name in names}
    return found if len(found) == len(names) else None


def _plain(library: Any, value: Any) -> Any:
    if isinstance(value, library.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, library.Array) else value


def _nests_deep(data: bytes | memoryview) -> bool:
    """Whether lists may lie in lists deeper than Triton follows."""
    characters = np.frombuffer(data, np.uint8)
    is_open = characters == ord("[")
    if np.count_nonzero(is_open) < MAX_NESTING:
        return False
    opened = np.flatnonzero(is_open)
    closed = np.flatnonzero(characters == ord("]"))
    depths = np.arange(1, len(opened) + 1) - np.searchsorted(closed, opened)
    return bool(depths.max() >= MAX_NESTING)


@functools.cache
def _simdjson() -> Any:
    """The library; None where it is not installed."""
    try:
        return importlib.import_module("simdjson")
    except ImportError:
        return None
