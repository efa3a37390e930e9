"""Tensor references to arrays and back: what lies in which memory, and who may write there."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import numpy as np

from ..ipc.arena import Arena, MappedArena
from ..ipc.dtypes import from_numpy, numpy_dtype
from ..ipc.errors import InternalError, InvalidArgumentError, UnavailableError
from ..ipc.tensor import (
    INLINE_LIMIT_BYTES,
    ClientPlace,
    CudaRegion,
    FramingError,
    Region,
    Span,
    Tensor,
    decode_bytes,
    element_count,
    encode_bytes,
    expected_byte_size,
)
from .backend import Array
from .copies import COPIES
from .cuda_regions import CudaRegions
from .deferred import Deferred
from .device_tensor import DeviceTensor, as_array
from .regions import ClientRegions

#: The number of the worker's own output arena.
OUTPUT_ARENA = 0

#: The boundaries on which elements of every data type may lie.
_ALIGNMENT_BYTES = 8


#: Waits until a condition holds, and lets others do meanwhile what makes it hold.
WaitFor = Callable[[Callable[[], bool]], None]


class Memory:
    """The arenas that a worker has been given: one to write, the others to read.

    A span of the output arena belongs to the thread that placed it until `hand_over`, then to the
    supervisor until `release`. All that concerns outputs may be called from any thread.
    """

    def __init__(self, cuda: CudaRegions | None = None) -> None:
        #: Inputs are handed out writable. Set when the backend is known, before the first request.
        self.writable_inputs = False
        #: Inputs in a GPU's memory are handed out where they are, as DeviceTensors. Set likewise.
        self.device_inputs = False
        #: Inputs that would be copied out of clients' memory are handed out as Deferred. Likewise.
        self.deferred_inputs = False
        #: What clients have registered, and requests have named.
        self.regions = ClientRegions()
        self.cuda = cuda or CudaRegions()
        self._descriptors: dict[int, tuple[int, int]] = {}
        self._mapped: dict[int, MappedArena] = {}
        self._output: Arena | None = None
        self._lock = threading.Lock()
        self._mapping = threading.Lock()
        #: Spans that are not handed over, and the threads that placed them.
        self._placed: dict[int, int] = {}
        #: Threads that wait for spans to come back, and none has come since they looked.
        self._waiting: set[int] = set()
        #: How often spans came back: tells a thread that waits for space that trying is worthwhile.
        self._returns = 0

    def __repr__(self) -> str:
        return (
            f"<Memory: {len(self._mapped) + len(self._descriptors)} arenas to read, "
            f"{len(self._placed)} spans placed, {self._output!r}>"
        )

    def attach(self, number: int, descriptor: int, size: int) -> None:
        """Take over the descriptor of an arena. Reading it is mapped on first use."""
        if number == OUTPUT_ARENA:
            self._output = Arena(descriptor, size, owner="the worker's outputs")
        else:
            self._descriptors[number] = (descriptor, size)

    def detach(self, number: int) -> None:
        """Let go of an arena; views that a model still has keep their memory."""
        self._mapped.pop(number, None)
        descriptor, _size = self._descriptors.pop(number, (-1, 0))
        if descriptor >= 0:
            os.close(descriptor)

    def array(self, tensor: Tensor, model: str, request_id: str, *, shared: bool = False) -> Array:
        """The tensor as an array of its shape, without copying where the bytes lie in an arena.

        It aliases the arena until the request is answered. What the model may write to is a copy
        where the bytes are `shared` with another reader, or with a client. Raises
        InvalidArgumentError when the bytes do not add up; the names of model and request are for
        its message.
        """
        data = tensor.data
        others = shared
        if isinstance(data, memoryview):
            view = data
            others = True
        elif isinstance(data, Span):
            arena = self._mapped.get(data.arena)
            if arena is None:
                arena = self._map(data.arena)
            view = arena.view(data.offset, data.size)
        elif isinstance(data, CudaRegion):
            region = self.cuda[data]
            if self.device_inputs and tensor.byte_size == expected_byte_size(
                tensor.datatype, tensor.shape
            ):
                return as_array(region.tensor(data, tensor.datatype, tensor.shape))
            view = memoryview(region.read(data))
            COPIES.fetched += len(view)
        else:
            if self.deferred_inputs and tensor.byte_size == expected_byte_size(
                tensor.datatype, tensor.shape
            ):
                return self._deferred(data, tensor)
            view = self._client_bytes(data, tensor.datatype)
        if tensor.datatype == "BYTES":
            try:
                return decode_bytes(view, element_count(tensor.shape)).reshape(tensor.shape)
            except FramingError as error:
                failure = InvalidArgumentError(error.about(tensor.name, model, request_id))
                failure.unread = not error.brief
                raise failure from None
        if len(view) != expected_byte_size(tensor.datatype, tensor.shape):
            raise InvalidArgumentError(
                f"input '{tensor.name}' for model '{model}' has {len(view)} bytes, which is not "
                f"what {tensor.datatype} {list(tensor.shape)} takes"
            )
        if others and self.writable_inputs:
            COPIES.guarded += len(view)
            view = memoryview(bytearray(view))  # of what is in a message there is little
        return np.ndarray(tensor.shape, numpy_dtype(tensor.datatype), view)

    def lent(self, tensor: Tensor, on_returned: Callable[[], None], *, shared: bool) -> Array:
        """An output of another model as an array, in place where it lies in that model's arena.

        `on_returned` is called when nothing reads the arena's bytes any more, by whatever thread
        notices. What is `shared` with others is copied for a model that writes.
        """
        span = tensor.data
        assert isinstance(span, Span)
        try:
            arena = self._mapped.get(span.arena) or self._map(span.arena)
        except Exception:
            on_returned()
            raise
        exporter = np.frombuffer(arena.view(span.offset, span.size), np.uint8)
        weakref.finalize(exporter, on_returned).atexit = False
        if tensor.datatype == "BYTES":
            return decode_bytes(exporter.data, element_count(tensor.shape)).reshape(tensor.shape)
        array: Array = np.frombuffer(exporter.data, numpy_dtype(tensor.datatype))
        array = array.reshape(tensor.shape)
        if shared and self.writable_inputs:
            COPIES.guarded += array.nbytes
            return array.copy()
        return array

    def place_in_region(self, name: str, array: Array, place: ClientPlace) -> Tensor:
        """Write an output to where its client wants it, and return what is told of it.

        Between two places of a GPU's memory it is copied there.

        Raises InternalError when its dtype has no Triton datatype or the place is too small for
        it, InvalidArgumentError when the client has taken the place away.
        """
        output: object = array
        if isinstance(output, DeviceTensor):
            assert isinstance(place, CudaRegion), "only such outputs are left on their GPU"
            _check_room(name, output.nbytes, place)
            self.cuda[place].write_from(place, output)
            written = _beginning(place, output.nbytes)
            return Tensor(name, output.datatype, output.shape, written)
        try:
            datatype = from_numpy(array.dtype)
        except ValueError as error:
            raise InternalError(f"output '{name}': {error}") from None
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        data = _bytes_of(array, datatype)
        _check_room(name, len(data), place)
        if isinstance(place, CudaRegion):
            self.cuda[place].write(place, data)
        else:
            self.regions[place].write(place, data)
        COPIES.placed += len(data)
        return Tensor(name, datatype, array.shape, _beginning(place, len(data)))

    def place(self, name: str, array: Array, wait_for: WaitFor) -> Tensor:
        """Turn an output into a tensor: inline when it is small, else a span of the output arena.

        Waits while the arena is full and somebody else will give spans back. Raises
        UnavailableError when the output cannot fit, InternalError when its dtype has no Triton
        datatype; whatever else it raises is the fault of the array's elements.
        """
        try:
            datatype = from_numpy(array.dtype)
        except ValueError as error:
            raise InternalError(f"output '{name}': {error}") from None
        shape = array.shape
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if datatype == "BYTES":
            framed = encode_bytes(array.ravel().tolist())
            if len(framed) <= INLINE_LIMIT_BYTES:
                return Tensor(name, datatype, shape, memoryview(framed))
            array = np.frombuffer(framed, np.uint8)
        elif array.nbytes <= INLINE_LIMIT_BYTES:
            COPIES.placed += array.nbytes
            return Tensor(name, datatype, shape, memoryview(array.tobytes()))
        size = array.nbytes
        offset = self._allocate(name, size, wait_for)
        assert self._output is not None
        target = np.frombuffer(self._output.view(offset, size), array.dtype).reshape(array.shape)
        np.copyto(target, array)
        COPIES.placed += size
        return Tensor(name, datatype, shape, Span(OUTPUT_ARENA, offset, size))

    def hand_over(self, outputs: Iterable[Tensor]) -> None:
        """The outputs are about to be sent: from now on the supervisor gives their spans back."""
        for tensor in outputs:
            if isinstance(tensor.data, Span):
                with self._lock:
                    del self._placed[tensor.data.offset]

    def discard(self, outputs: Iterable[Tensor]) -> None:
        """The outputs will not be sent: take their spans back. Who waits has to be woken."""
        for tensor in outputs:
            if isinstance(tensor.data, Span):
                with self._lock:
                    del self._placed[tensor.data.offset]
                self.release([tensor.data.offset])

    def release(self, offsets: list[int]) -> None:
        """The supervisor has read these spans of the output arena."""
        assert self._output is not None
        with self._lock:
            for offset in offsets:
                self._output.release(offset)
            self._returns += 1
            self._waiting.clear()  # all of them may try again

    def trim(self) -> None:
        """Give pages of the output arena back that have lain idle for a while."""
        if self._output is not None:
            with self._lock:
                self._output.trim()

    def _client_bytes(self, place: Region, datatype: str) -> memoryview:
        region = self.regions[place]
        if self.writable_inputs or datatype == "BYTES":
            return region.read(place).data
        view = region.view(place)
        # What lies across its natural boundaries is slow to read, and libraries may expect better.
        if np.frombuffer(view, np.uint8).__array_interface__["data"][0] % _ALIGNMENT_BYTES:
            return region.read(place).data
        return view

    def _deferred(self, place: Region, tensor: Tensor) -> Array:
        region = self.regions[place]
        region.check()
        dtype: np.dtype[Any] = numpy_dtype(tensor.datatype)
        return cast("Array", Deferred(region, place, dtype, tensor.shape))

    def _allocate(self, name: str, size: int, wait_for: WaitFor) -> int:
        assert self._output is not None
        me = threading.get_ident()
        while True:
            with self._lock:
                self._waiting.discard(me)
                seen = self._returns
                try:
                    offset = self._output.allocate(size)
                except UnavailableError as error:
                    if size > self._output.size or not self._others_may_release(me):
                        raise UnavailableError(f"output '{name}': {error.message}") from None
                    self._waiting.add(me)
                else:
                    self._placed[offset] = me
                    return offset
            wait_for(partial(self._has_returns_since, seen))

    def _others_may_release(self, me: int) -> bool:
        """Whether spans are with the supervisor, or with a thread that is not waiting itself.

        Else nothing would ever come back: all of the arena belongs to responses that cannot be
        finished for want of space.
        """
        assert self._output is not None
        return self._output.span_count > len(self._placed) or any(
            thread != me and thread not in self._waiting for thread in self._placed.values()
        )

    def _has_returns_since(self, seen: int) -> bool:
        return self._returns != seen

    def _map(self, number: int) -> MappedArena:
        with self._mapping:
            if number in self._mapped:  # by another thread, just now
                return self._mapped[number]
            if number not in self._descriptors:
                raise InternalError(f"arena {number} was never attached to this worker")
            descriptor, size = self._descriptors[number]
            arena = MappedArena(descriptor, size, writable=self.writable_inputs)
            self._mapped[number] = arena
            del self._descriptors[number]
            os.close(descriptor)  # the mapping holds on to the memory by itself
            return arena


def _beginning(place: ClientPlace, size: int) -> ClientPlace:
    """So many bytes at the beginning of a place."""
    return type(place)(place.region, place.offset, size)


def _check_room(name: str, size: int, place: ClientPlace) -> None:
    if size > place.size:
        raise InternalError(
            f"shared memory size specified with the request for output '{name}' "
            f"({place.size} bytes) should be at least {size} bytes to hold the results"
        )


def _bytes_of(array: Array, datatype: str) -> memoryview:
    """An array's bytes as they travel, row by row; copied only where they do not lie so."""
    if datatype == "BYTES":
        return memoryview(encode_bytes(array.ravel().tolist()))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
