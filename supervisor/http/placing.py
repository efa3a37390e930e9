"""Where the bytes of an inference request go: small tensors into the request, large ones into a
lease, and those in clients' regions nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ...ipc.tensor import INLINE_LIMIT_BYTES, Tensor
from ..request import InferRequest, Lease
from .binary_codec import check_sizes, raw_input
from .body import BodyStream, too_large
from .filling import Filling, Part
from .json_codec import OutputForms, ParsedRequest

if TYPE_CHECKING:
    from ..config.schema import ModelConfig
    from ..dataplane import DataPlane

_RAW_FORMS = OutputForms(default=True)

#: Tensors that share a lease begin at multiples of this, so that backends can read them in place.
_ALIGNMENT_BYTES = 64


def deduce(
    config: ModelConfig, model: str, version: int | None, size: int
) -> tuple[ParsedRequest, bytes]:
    """The request whose body is nothing but `size` bytes, and what belongs before these.

    Raises InvalidArgumentError where the configuration leaves a doubt.
    """
    request = InferRequest(model, version, [])
    tensor, prefix = raw_input(request, config, size)
    request.inputs.append(tensor)
    return ParsedRequest(request, [size + len(prefix)], _RAW_FORMS), prefix


def is_large(parsed: ParsedRequest, behind: int, limit: int) -> bool:
    """Whether a tensor needs a lease; `behind` is the number of bytes behind the document.

    Raises InvalidArgumentError when these are not those of the inputs, or when the small ones are
    more than the `limit` for what stays in the server's own memory.
    """
    total = inline = largest = 0
    for tensor, size in zip(parsed.request.inputs, parsed.sizes, strict=True):
        if size is None:
            size = size_here(tensor)
        else:
            total += size
            if size <= INLINE_LIMIT_BYTES:
                inline += size
        largest = max(largest, size)
    if total != behind:
        check_sizes(parsed, behind)
    if inline > limit:
        raise too_large(limit)
    return largest > INLINE_LIMIT_BYTES


def use_regions(dataplane: DataPlane, parsed: ParsedRequest) -> None:
    """Have the request use the places in clients' regions that it names. Raises StatusError."""
    request, places = parsed.request, parsed.places
    if places is None:
        return
    for index, place in places.inputs.items():
        request.inputs[index].data = dataplane.use_region(request, place)
    for index, place in places.outputs.items():
        request.outputs[index].place = dataplane.use_region(request, place)


def place_inline(parsed: ParsedRequest, rest: memoryview) -> None:
    """Give every tensor its bytes of what is behind the document; nothing is copied."""
    at = 0
    for tensor, size in zip(parsed.request.inputs, parsed.sizes, strict=True):
        if size is not None:
            tensor.data = rest[at : at + size]
            at += size


def place_in_lease(dataplane: DataPlane, parsed: ParsedRequest, rest: memoryview) -> None:
    """Copy the large tensors into a lease; all bytes are here. Raises StatusError."""
    lease, offsets = _lease(dataplane, parsed)
    at = 0
    for tensor, declared, offset in zip(parsed.request.inputs, parsed.sizes, offsets, strict=True):
        data = tensor.data
        if declared is not None:
            data = rest[at : at + declared]
            at += declared
        if offset is None:
            tensor.data = data
        else:
            assert isinstance(data, memoryview)
            lease.write(offset, data)
            tensor.data = lease.span(offset, len(data))


async def stream_into_lease(
    dataplane: DataPlane, parsed: ParsedRequest, stream: BodyStream
) -> None:
    """Read the large tensors into a lease as they come, and the small ones beside it."""
    lease, offsets = _lease(dataplane, parsed)
    for tensor, declared, offset in zip(parsed.request.inputs, parsed.sizes, offsets, strict=True):
        if offset is None:
            if declared is not None:
                tensor.data = memoryview(await stream.read(declared))
            continue
        if declared is None:
            declared = size_here(tensor)
            lease.write(offset, cast("memoryview", tensor.data))
        else:
            await stream.read_into(_writer(lease, offset), declared)
        tensor.data = lease.span(offset, declared)


def lay_out(dataplane: DataPlane, parsed: ParsedRequest, behind: int, limit: int) -> Filling:
    """Give every tensor its place, for the `behind` bytes that are still to come to be put into.

    Raises StatusError, for a lease that cannot be had and as `is_large` does.
    """
    if not is_large(parsed, behind, limit):  # many small tensors
        memory = memoryview(bytearray(behind))
        place_inline(parsed, memory)
        return Filling([Part(None, 0, behind)] if behind else [], memory)
    lease, offsets = _lease(dataplane, parsed)
    places = list(zip(parsed.request.inputs, parsed.sizes, offsets, strict=True))
    memory = memoryview(bytearray(sum(size or 0 for _, size, offset in places if offset is None)))
    parts: list[Part] = []
    at = 0
    for tensor, declared, offset in places:
        if offset is None:
            if declared:
                tensor.data = memory[at : at + declared]
                parts.append(Part(None, at, declared))
                at += declared
        elif declared is None:
            data = cast("memoryview", tensor.data)
            lease.write(offset, data)
            tensor.data = lease.span(offset, len(data))
        else:
            tensor.data = lease.span(offset, declared)
            parts.append(Part(lease, offset, declared))
    return Filling(parts, memory)


def size_here(tensor: Tensor) -> int:
    """The bytes of a tensor that came with the document; a client's region has none of them."""
    data = tensor.data
    return len(data) if isinstance(data, memoryview) else 0


def _lease(dataplane: DataPlane, parsed: ParsedRequest) -> tuple[Lease, list[int | None]]:
    """A lease for the large tensors of a request, and where in it each of them begins."""
    request = parsed.request
    offsets: list[int | None] = []
    total = 0
    for tensor, declared in zip(request.inputs, parsed.sizes, strict=True):
        size = size_here(tensor) if declared is None else declared
        if size > INLINE_LIMIT_BYTES:
            begin = -(-total // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
            offsets.append(begin)
            total = begin + size
        else:
            offsets.append(None)
    dataplane.route(request)
    lease = dataplane.lease(request.model, request.version, total)
    request.leases.append(lease)
    return lease, offsets


def _writer(lease: Lease, offset: int) -> Callable[[int, memoryview], None]:
    return lambda at, piece: lease.write(offset + at, piece)
