"""A tensor's elements in JSON, both ways: nested or flat lists in, flat lists out."""

from __future__ import annotations

import binascii
import json
import struct
from array import array
from base64 import b64encode
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import orjson

from ...ipc.dtypes import ELEMENT_SIZE, numpy_dtype
from ...ipc.errors import InternalError, InvalidArgumentError, StatusError
from ...ipc.tensor import Tensor, decode_bytes

#: Lists inside lists of one tensor: Triton refuses from this depth on.
MAX_NESTING = 100

_INT64_MAX = 2**63 - 1
_LENGTH = struct.Struct("<I")

_JsonTypes = tuple[set[type], str]
_SIGNED: _JsonTypes = ({int}, "non-signed-integer as signed-integer")
_UNSIGNED: _JsonTypes = ({int}, "non-unsigned-integer as unsigned-integer")
_DOUBLE: _JsonTypes = ({int, float}, "non-number as double")

#: The Python types that a data type's elements may have, and what Triton calls the others.
_JSON_TYPES: dict[str, _JsonTypes] = {
    "BOOL": ({bool}, "non-boolean as boolean"),
    "UINT8": _UNSIGNED,
    "UINT16": _UNSIGNED,
    "UINT32": _UNSIGNED,
    "UINT64": _UNSIGNED,
    "INT8": _SIGNED,
    "INT16": _SIGNED,
    "INT32": _SIGNED,
    "INT64": _SIGNED,
    "FP16": _DOUBLE,
    "BF16": _DOUBLE,
    "FP32": _DOUBLE,
    "FP64": _DOUBLE,
}

#: The array module packs a list faster than numpy, and small ones several times faster.
_TYPECODES = {
    "BOOL": "B",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "d",
    "BF16": "d",
    "FP32": "f",
    "FP64": "d",
}
_WIDEST = {"I": "q", "U": "Q"}
_FLOATS = ("FP16", "BF16", "FP32", "FP64")
#: Up to this size the way through numpy costs more than a Python float for each element.
_SMALL_BYTES = 512
_FORMATS: dict[str, Literal["f", "d"]] = {"FP32": "f", "FP64": "d"}
#: Neither the array module nor orjson knows them: they go by way of double.
_HALVES = ("FP16", "BF16")

_TOO_DEEP = f"JSON nesting depth exceeds maximum allowed limit ({MAX_NESTING})"
_TOO_MANY = "Unable to parse 'data': Shape does not match true shape of 'data' field"
_TOO_FEW = "Failed to parse 'data' field: shape does not match true shape"


def too_deep() -> InvalidArgumentError:
    """The error of a document that nests deeper than the server follows."""
    return InvalidArgumentError(_TOO_DEEP)


def decode(
    name: str,
    datatype: str,
    shape: list[int],
    value: object,
    limit: int,
    *,
    in_base64: bool = False,
) -> memoryview:
    """Turn the parsed `data` member of an input into the tensor's bytes.

    It is a JSON value, or a flat array of its numbers, of 64 bits each: doubles, or integers as the
    data type has them.
    Nesting need not match the shape, only the number of elements counts. BYTES are not counted
    here: that is the data plane's check, as it is for framed strings from other frontends. Integers
    beyond the data type's range wrap. Raises InternalError, as Triton's JSON layer does, when
    an element has the wrong type or their number is wrong; for FP16 and BF16, whose JSON Triton
    refuses with another status, InvalidArgumentError. So it does for more than `limit` bytes and
    for strings that are not the base64 that they should be.
    """
    count = _element_count(name, shape)
    if count == 0:
        return memoryview(b"")
    if datatype != "BYTES":
        _check_size(name, _byte_size(name, count, ELEMENT_SIZE[datatype]), limit)
    if isinstance(value, np.ndarray):
        return _convert(datatype, cast("npt.NDArray[Any]", value), count)
    elements, kinds = _flatten(value)
    if datatype == "BYTES":
        return memoryview(_frame(name, elements, kinds, limit, in_base64))
    if len(elements) > count:
        raise _unfit(datatype, _TOO_MANY)
    packed = _pack(datatype, elements, kinds)
    if len(elements) < count:
        raise _unfit(datatype, _TOO_FEW)
    return packed


def encode(tensor: Tensor, *, in_base64: bool = False) -> bytes:
    """Write an output's elements as a flat JSON list.

    A FP32 is written as the double it equals, as Triton does, so readers get its exact value; so
    are FP16 and BF16. NaN and the infinities become the bare tokens `NaN`, `Infinity`, `-Infinity`.
    Strings that are not UTF-8 have their wrong bytes replaced by U+FFFD: the answer must stay JSON,
    and whoever wants the bytes asks for base64 or binary data.
    """
    datatype = tensor.datatype
    data = cast("memoryview", tensor.data)
    count = 1
    for extent in tensor.shape:
        count *= extent
    if datatype == "BYTES":
        try:
            strings = decode_bytes(data, count)
        except ValueError as error:
            raise _mismatch(tensor.name) from error
        elements: list[bytes] = strings.tolist()
        if in_base64:
            return orjson.dumps([b64encode(element).decode() for element in elements])
        return orjson.dumps([element.decode("utf-8", "replace") for element in elements])
    if len(data) != count * ELEMENT_SIZE[datatype]:
        raise _mismatch(tensor.name)
    if datatype == "BOOL":
        return orjson.dumps((np.frombuffer(data, np.uint8) != 0).tolist())
    if len(data) <= _SMALL_BYTES and datatype in _FORMATS:
        values = data.cast(_FORMATS[datatype]).tolist()
        total = sum(values)
        if total - total == 0.0:
            return orjson.dumps(values)
    numbers: npt.NDArray[Any] = np.frombuffer(data, numpy_dtype(datatype))
    if datatype in _FLOATS:
        numbers = numbers.astype(np.float64)
        if not np.isfinite(numbers).all():  # orjson would write null
            return json.dumps(numbers.tolist(), separators=(",", ":")).encode()
    elif not numbers.flags.aligned:
        numbers = numbers.copy()
    return orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)


def has_infinity(tensor: Tensor) -> bool:
    """Whether some element is infinite: said so, or too large for its type."""
    if tensor.datatype not in _FLOATS:
        return False
    data = cast("memoryview", tensor.data)
    if len(data) <= _SMALL_BYTES and tensor.datatype in _FORMATS:
        total = sum(data.cast(_FORMATS[tensor.datatype]))
        if total - total == 0.0:
            return False
    numbers = np.frombuffer(data, numpy_dtype(tensor.datatype))
    return bool(np.isinf(numbers).any())


def _mismatch(name: str) -> InternalError:
    return InternalError(
        "Failed to write 'data' field: output tensor shape does not match "
        f"size of output for '{name}'"
    )


def _element_count(name: str, shape: list[int]) -> int:
    if max(shape, default=0) > _INT64_MAX:
        signed = ",".join(str((extent + 2**63) % 2**64 - 2**63) for extent in shape)
        raise InvalidArgumentError(
            f"invalid shape for input '{name}': shape [{signed}] contains one or more invalid "
            "dimensions"
        )
    count = 1
    for extent in shape:
        count *= extent
    if count > _INT64_MAX:
        raise InvalidArgumentError(
            f"invalid shape for input '{name}': shape [{','.join(map(str, shape))}] "
            f"causes total element count to exceed maximum size of {_INT64_MAX}"
        )
    return count


def _byte_size(name: str, count: int, element_size: int) -> int:
    size = count * element_size
    if size > _INT64_MAX:
        raise InvalidArgumentError(
            f"byte size overflow for input '{name}': element count ({count}) * data type size "
            f"({element_size}) exceeds maximum allowed size ({_INT64_MAX})"
        )
    return size


def _check_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise InvalidArgumentError(
            f"JSON input '{name}' has a byte_size ({size} bytes) that exceeds the maximum allowed "
            f"value of {limit} bytes. Use --http-max-input-size to increase the limit."
        )


def _flatten(value: object) -> tuple[list[Any], set[type]]:
    """Unfold the lists, one level of all of them at a time; also the types of what they hold."""
    elements: list[Any] = [value]
    depth = 0
    if isinstance(value, list):
        elements, depth = elements[0], 1
    while True:
        kinds: set[type] = set(map(type, elements))
        if list not in kinds:
            return elements, kinds
        depth += 1
        if depth >= MAX_NESTING:
            raise too_deep()
        if len(kinds) == 1:
            elements = list(chain.from_iterable(elements))
        else:
            lists: list[list[Any]] = [
                item if isinstance(item, list) else [item] for item in elements
            ]
            elements = list(chain.from_iterable(lists))


def _pack(datatype: str, elements: list[Any], kinds: set[type]) -> memoryview:
    """The elements as the machine's numbers, each after a check of its JSON type."""
    allowed, wrong = _JSON_TYPES[datatype]
    if kinds - allowed:
        raise _wrong_type(datatype, wrong)
    try:
        packed = array(_TYPECODES[datatype], elements)
    except OverflowError:
        # Integers beyond the type's range wrap; those beyond 64 bits are none to Triton.
        wide = _WIDEST.get(datatype[0])
        if wide is None:
            raise _wrong_type(datatype, wrong) from None
        try:
            numbers = np.array(array(wide, elements))
        except OverflowError:
            raise _wrong_type(datatype, wrong) from None
        return numbers.astype(numpy_dtype(datatype)).view(np.uint8).data
    if datatype in _HALVES:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, as a FP32 does
            return np.array(packed).astype(numpy_dtype(datatype)).view(np.uint8).data
    return memoryview(packed).cast("B")


def _convert(datatype: str, numbers: npt.NDArray[Any], count: int) -> memoryview:
    """Numbers that are of the right kind in their data type, as `_pack` makes them."""
    if len(numbers) != count:
        raise _unfit(datatype, _TOO_MANY if len(numbers) > count else _TOO_FEW)
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        converted = numbers.astype(numpy_dtype(datatype))
    return converted.view(np.uint8).data


def _frame(name: str, elements: list[Any], kinds: set[type], limit: int, in_base64: bool) -> bytes:
    if kinds - {str}:
        raise InternalError(
            "Unable to parse JSON bytes array: attempt to access JSON non-string as string"
        )
    parts: list[bytes] = []
    for element in elements:
        encoded = _from_base64(name, element) if in_base64 else _encoded(element)
        parts += (_LENGTH.pack(len(encoded)), encoded)
    framed = b"".join(parts)
    _check_size(name, len(framed), limit)
    return framed


def _encoded(element: str) -> bytes:
    # Bytes that are no UTF-8 came in as surrogates and leave as they were.
    try:
        return element.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InternalError(
            "Unable to parse 'data': The surrogate pair in string is invalid."
        ) from None


def _from_base64(name: str, element: str) -> bytes:
    try:
        return binascii.a2b_base64(element, strict_mode=True)
    except ValueError as error:
        raise InvalidArgumentError(
            f"Unable to parse 'data': an element of input '{name}' is not base64, which its "
            f"'binary_encoding' promises: {error}"
        ) from None


def _wrong_type(datatype: str, what: str) -> StatusError:
    return _unfit(datatype, f"Unable to parse 'data': attempt to access JSON {what}")


def _unfit(datatype: str, message: str) -> StatusError:
    return InvalidArgumentError(message) if datatype in _HALVES else InternalError(message)
