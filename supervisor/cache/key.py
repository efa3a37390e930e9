"""The key of a request: a hash of everything that decides its answer.

Two requests share a key only when the same load of the same model would have to answer them alike:
inputs count with name, datatype, shape and bytes, and so do the wanted outputs, the parameters and
what a model can read of a sequence. The request's id, priority and timeout do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from ...ipc.tensor import ClientPlace, Span
from ..request import InferRequest

#: Enough that no two requests ever meet by chance.
_DIGEST_BYTES = 32

_encode = msgspec.msgpack.Encoder().encode

#: The bytes of a span, in place; None when they cannot be had.
Reader = Callable[[Span], memoryview | None]


class KeyMaker:
    """Makes the keys of one load of a model version."""

    def __init__(self, model: str, version: int, generation: bytes) -> None:
        self._start = hashlib.blake2b(
            _encode((model, version, generation)), digest_size=_DIGEST_BYTES
        )

    def key(self, request: InferRequest, read: Reader) -> bytes | None:
        """The key of a request that has been admitted; None when an input's bytes cannot be had.

        Takes a millisecond for each megabyte of inputs, without holding the interpreter.
        """
        inputs = sorted(request.inputs, key=lambda tensor: tensor.name)
        hash = self._start.copy()
        # The sizes stand before the bytes, so that no two lists of inputs become the same stream.
        hash.update(
            _encode(
                (
                    request.wanted,
                    sorted(request.parameters.items()),
                    request.correlation_id,
                    request.flags,
                    [(each.name, each.datatype, each.shape, each.byte_size) for each in inputs],
                )
            )
        )
        for tensor in inputs:
            data = tensor.data
            if isinstance(data, ClientPlace):
                return None
            if isinstance(data, Span):
                found = read(data)
                if found is None:
                    found = request.lent(data)
                if found is None:
                    return None
                data = found
            hash.update(data)
        return hash.digest()
