"""Tensor references to arrays and back: what lies in which memory, and who may write there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np

from ..ipc.arena import Arena, MappedArena
from ..ipc.dtypes import from_numpy, numpy_dtype
from ..ipc.errors import InternalError, InvalidArgumentError, UnavailableError
from ..ipc.tensor import (
    INLINE_LIMIT_BYTES,
    FramingError,
    Span,
    Tensor,
    decode_bytes,
    element_count,
    encode_bytes,
)
from .backend import Array

#: The number of the worker's own output arena.
OUTPUT_ARENA = 0


class Memory:
    """The arenas that a worker has been given: one to write, the others to read.

    `place` and `release` may be called from any thread.
    """

    def __init__(self) -> None:
        #: Inputs are handed out writable. Set when the backend is known, before the first request.
        self.writable_inputs = False
        self._descriptors: dict[int, tuple[int, int]] = {}
        self._mapped: dict[int, MappedArena] = {}
        self._output: Arena | None = None
        self._lock = threading.Lock()
        #: How often spans came back: tells a thread that waits for space that trying is worthwhile.
        self._releases = 0

    def attach(self, number: int, descriptor: int, size: int) -> None:
        """Take over the descriptor of an arena. Reading it is mapped on first use."""
        if number == OUTPUT_ARENA:
            self._output = Arena(descriptor, size, owner="the worker's outputs")
        else:
            self._descriptors[number] = (descriptor, size)

    def array(self, tensor: Tensor, model: str, request_id: str) -> Array:
        """The tensor as an array of its shape, without copying where the bytes lie in an arena.

        It aliases the arena until the request is answered. Raises InvalidArgumentError when BYTES
        elements do not add up; the names of model and request are for its message.
        """
        data = tensor.data
        if isinstance(data, Span):
            arena = self._mapped.get(data.arena)
            if arena is None:
                arena = self._map(data.arena)
            view = arena.view(data.offset, data.size)
            inline = False
        else:
            view = data
            inline = True
        if tensor.datatype == "BYTES":
            try:
                return decode_bytes(view, element_count(tensor.shape)).reshape(tensor.shape)
            except FramingError as error:
                message = error.about(tensor.name, model, request_id)
                raise InvalidArgumentError(message) from None
        array: Array = np.frombuffer(view, numpy_dtype(tensor.datatype)).reshape(tensor.shape)
        if inline and self.writable_inputs:
            return array.copy()  # the message's bytes are immutable, and these are few
        return array

    def place(
        self, name: str, array: Array, wait_for: Callable[[Callable[[], bool]], None]
    ) -> Tensor:
        """Turn an output into a tensor: inline when it is small, else a span of the output arena.

        `wait_for` waits until a condition holds, and is called when the arena is full and spans
        are still out. Raises UnavailableError when the output can never fit, InternalError when
        its dtype has no Triton datatype.
        """
        try:
            datatype = from_numpy(array.dtype)
        except ValueError as error:
            raise InternalError(f"output '{name}': {error}") from None
        shape = array.shape
        if datatype == "BYTES":
            framed = encode_bytes(array.ravel().tolist())
            if len(framed) <= INLINE_LIMIT_BYTES:
                return Tensor(name, datatype, shape, memoryview(framed))
            array = np.frombuffer(framed, np.uint8)
        elif array.nbytes <= INLINE_LIMIT_BYTES:
            return Tensor(name, datatype, shape, memoryview(array.tobytes()))
        size = array.nbytes
        offset = self._allocate(name, size, wait_for)
        assert self._output is not None
        target = np.frombuffer(self._output.view(offset, size), array.dtype).reshape(array.shape)
        np.copyto(target, array)
        return Tensor(name, datatype, shape, Span(OUTPUT_ARENA, offset, size))

    def release(self, offsets: list[int]) -> None:
        """The supervisor has read these spans of the output arena."""
        assert self._output is not None
        with self._lock:
            for offset in offsets:
                self._output.release(offset)
            self._releases += 1

    def trim(self) -> None:
        """Give pages of the output arena back that have lain idle for a while."""
        if self._output is not None:
            with self._lock:
                self._output.trim()

    def _allocate(
        self, name: str, size: int, wait_for: Callable[[Callable[[], bool]], None]
    ) -> int:
        assert self._output is not None
        while True:
            with self._lock:
                seen = self._releases
                try:
                    return self._output.allocate(size)
                except UnavailableError as error:
                    if self._output.used_bytes == 0:
                        raise UnavailableError(f"output '{name}': {error.message}") from None
            wait_for(lambda seen=seen: self._releases != seen)  # type: ignore[misc]

    def _map(self, number: int) -> MappedArena:
        try:
            descriptor, size = self._descriptors.pop(number)
        except KeyError:
            raise InternalError(f"arena {number} was never attached to this worker") from None
        arena = MappedArena(descriptor, size, writable=self.writable_inputs)
        os.close(descriptor)  # the mapping holds on to the memory by itself
        self._mapped[number] = arena
        return arena
