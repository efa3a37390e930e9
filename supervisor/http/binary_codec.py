"""The binary tensor extension: bytes behind the document, and requests of nothing but bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...ipc.dtypes import ELEMENT_SIZE, from_config
from ...ipc.errors import InvalidArgumentError
from ...ipc.tensor import Tensor
from ..request import InferRequest
from .json_codec import ParsedRequest

if TYPE_CHECKING:
    from ..config.schema import ModelConfig

HEADER_LENGTH = "Inference-Header-Content-Length"

_LEADING_INTEGER = re.compile(r"\s*([+-]?[0-9]+)")
_INT32 = range(-(2**31), 2**31)
_NO_REQUEST_ID = "[request id: <id_unknown>] "


def header_length(text: str, content_length: int) -> int:
    """How many bytes of the body are its JSON document, as the header says.

    Reads a number as C's `stoi` does, which Triton uses: what follows the digits is ignored. Raises
    InvalidArgumentError for what is no number or does not lie within the body.
    """
    found = _LEADING_INTEGER.match(text)
    if found is None:
        raise InvalidArgumentError(f"Unable to parse {HEADER_LENGTH}, got: {text}")
    length = int(found[1])
    if length not in _INT32:
        raise InvalidArgumentError(
            f"Unable to parse {HEADER_LENGTH}, value is out of range "
            f"[ {_INT32.start}, {_INT32.stop - 1} ], got: {text}"
        )
    if not 0 <= length <= content_length:
        raise InvalidArgumentError(
            f"inference header size should be in range (0, {content_length}), got: {text}"
        )
    return length


def check_sizes(parsed: ParsedRequest, available: int) -> None:
    """Raise InvalidArgumentError unless the inputs take exactly the bytes behind the document."""
    model = parsed.request.model
    for tensor, size in zip(parsed.request.inputs, parsed.sizes, strict=True):
        if size is None:
            continue
        if size > available:
            raise InvalidArgumentError(
                f"unexpected size for input '{tensor.name}', expecting {size - available} "
                f"additional bytes for model '{model}'"
            )
        available -= size
    if available:
        raise InvalidArgumentError(f"unexpected additional input data for model '{model}'")


def raw_input(request: InferRequest, config: ModelConfig, size: int) -> tuple[Tensor, bytes]:
    """Deduce the one input of a request whose body is nothing but its `size` bytes.

    Returns the tensor, without data yet, and the bytes that belong before those of the body: the
    length of a BYTES element. Raises InvalidArgumentError where the configuration leaves a doubt.
    """
    if len(config.input) != 1:
        raise InvalidArgumentError(
            f"{_NO_REQUEST_ID}Raw request must only have 1 input (found 1) to be deduced but got "
            f"{len(config.input)} inputs in '{request.model}' model configuration"
        )
    declared = config.input[0]
    datatype = from_config(declared.data_type)
    dims = list(declared.dims)
    if dims.count(-1) > 1:
        raise InvalidArgumentError(
            f"{_NO_REQUEST_ID}The shape of the raw input '{declared.name}' can not be deduced "
            "because there are more than one variable-sized dimension"
        )
    prefix = b""
    if datatype == "BYTES":
        if _product(dims) != 1:
            raise InvalidArgumentError(
                f"{_NO_REQUEST_ID}For BYTE datatype raw input '{declared.name}', the model must "
                "have input shape [1]"
            )
        prefix = size.to_bytes(4, "little")
    elif -1 in dims:
        at = dims.index(-1)
        fixed = _product(dims[:at] + dims[at + 1 :]) * ELEMENT_SIZE[datatype]
        dims[at] = size // fixed if fixed else 0
    if datatype != "BYTES":
        expected = _product(dims) * ELEMENT_SIZE[datatype]
        if size != expected:  # Triton has not told the input its name yet
            raise InvalidArgumentError(
                f"{_NO_REQUEST_ID}input byte size mismatch for input 'raw_input' for model "
                f"'{request.model}'. Expected {expected}, got {size}"
            )
    shape = (1, *dims) if config.max_batch_size > 0 else tuple(dims)
    return Tensor(declared.name, datatype, shape, memoryview(b"")), prefix


def _product(dims: Sequence[int]) -> int:
    product = 1
    for extent in dims:
        product *= extent
    return product
