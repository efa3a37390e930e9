"""Requests whose documents were read before: a client sends the same one again and again.

A document that holds no data says the same each time: the names, types and shapes of the tensors
behind it. It is understood only once, as the head before it is.
"""

from __future__ import annotations

from typing import NamedTuple

from ...ipc.dtypes import DataType
from ...ipc.tensor import Tensor
from ..request import InferRequest, RequestedOutput
from .json_codec import OutputForms, ParsedRequest, decode_request

#: Longer documents are read each time.
_MOST_BYTES = 1024

#: So many are known at most; then all are forgotten.
_MOST_DOCUMENTS = 512

_EMPTY = memoryview(b"")


class _Known(NamedTuple):
    """What a document says."""

    inputs: tuple[tuple[str, DataType, tuple[int, ...]], ...]
    outputs: tuple[RequestedOutput, ...]
    sizes: list[int | None]
    forms: OutputForms


class Documents:
    """Reads the documents of one server."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[bytes, _Known] = {}

    def __repr__(self) -> str:
        return f"<Documents: {len(self._known)} known>"

    def read(self, document: memoryview, model: str, version: int | None) -> ParsedRequest:
        """The request that a document describes, as `decode_request` reads it; raises likewise."""
        if len(document) > _MOST_BYTES:
            return decode_request(document, model, version, self._limit)
        data = bytes(document)
        known = self._known.get(data)
        if known is None:
            parsed = decode_request(data, model, version, self._limit)
            if _says_the_same_again(parsed):
                self._remember(data, parsed)
            return parsed
        inputs, outputs, sizes, forms = known
        tensors = [Tensor(name, datatype, shape, _EMPTY) for name, datatype, shape in inputs]
        return ParsedRequest(InferRequest(model, version, tensors, [*outputs]), sizes, forms)

    def _remember(self, data: bytes, parsed: ParsedRequest) -> None:
        if len(self._known) >= _MOST_DOCUMENTS:
            self._known.clear()
        request = parsed.request
        self._known[data] = _Known(
            tuple((tensor.name, tensor.datatype, tensor.shape) for tensor in request.inputs),
            tuple(request.outputs),
            parsed.sizes,
            parsed.forms,
        )


def _says_the_same_again(parsed: ParsedRequest) -> bool:
    """Whether a document holds nothing but the form of its tensors: no data, no place in a region,
    and nothing that tells one request from another.
    """
    request = parsed.request
    return (
        parsed.places is None
        and None not in parsed.sizes
        and not (request.id or request.parameters or request.correlation_id or request.flags)
        and not (request.priority or request.timeout_us)
    )
