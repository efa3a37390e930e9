"""The shared-memory extensions over HTTP: registering, forgetting and listing clients' regions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web

from ...ipc.errors import InternalError, InvalidArgumentError
from ..request import HANDLE_BYTES, CudaHandle
from .body import read_all
from .json_document import load
from .reply import JSON, Reply

if TYPE_CHECKING:
    from ..controlplane import ControlPlane

Endpoint = Callable[[web.BaseRequest, str], Awaitable[Reply]]


class SharedMemoryEndpoints:
    """Each method is one endpoint for a region's name, "" for all regions. Raises StatusError."""

    def __init__(self, controlplane: ControlPlane, max_input_size: int) -> None:
        self._controlplane = controlplane
        self._limit = max_input_size

    def endpoints(self) -> dict[tuple[str, str], Endpoint]:
        """All of them, by the kind of memory and what is done."""
        return {
            ("system", "status"): self.system_status,
            ("system", "register"): self.system_register,
            ("system", "unregister"): self.system_unregister,
            ("cuda", "status"): self.cuda_status,
            ("cuda", "register"): self.cuda_register,
            ("cuda", "unregister"): self.cuda_unregister,
        }

    async def system_status(self, http: web.BaseRequest, name: str) -> Reply:
        """One region of system memory, or all of them."""
        return _json(
            [
                {
                    "name": region.name,
                    "key": region.key,
                    "offset": region.offset,
                    "byte_size": region.byte_size,
                }
                for region in self._controlplane.regions.system(name)
            ]
        )

    async def system_register(self, http: web.BaseRequest, name: str) -> Reply:
        """Register a part of a segment."""
        _require_name(name)
        document = await self._document(http)
        key = _text(_field(document, "key"))
        offset = _unsigned(document.get("offset", 0))
        byte_size = _unsigned(_field(document, "byte_size"))
        self._controlplane.regions.register_system(name, key, offset, byte_size)
        return Reply(200, b"", JSON)

    async def system_unregister(self, http: web.BaseRequest, name: str) -> Reply:
        """Forget one region of system memory, or all of them."""
        self._controlplane.regions.unregister_system(name)
        return Reply(200, b"", JSON)

    async def cuda_status(self, http: web.BaseRequest, name: str) -> Reply:
        """One region of a GPU's memory, or all of them."""
        return _json(
            [
                {
                    "name": region.name,
                    "device_id": region.handle.device,
                    "byte_size": region.byte_size,
                }
                for region in self._controlplane.regions.cuda(name)
            ]
        )

    async def cuda_register(self, http: web.BaseRequest, name: str) -> Reply:
        """Register memory of a GPU."""
        _require_name(name)
        document = await self._document(http)
        handle = _field(document, "raw_handle")
        text = _text(_member(handle, "b64"))
        byte_size = _unsigned(_member(document, "byte_size"))
        device = _unsigned(_member(document, "device_id"))
        handle = CudaHandle(_raw_handle(text), device, byte_size)
        await self._controlplane.regions.register_cuda(name, handle)
        return Reply(200, b"", JSON)

    async def cuda_unregister(self, http: web.BaseRequest, name: str) -> Reply:
        """Forget one region of a GPU's memory, or all of them."""
        self._controlplane.regions.unregister_cuda(name)
        return Reply(200, b"", JSON)

    async def _document(self, http: web.BaseRequest) -> dict[str, Any]:
        """The members of the body's JSON value; only an object has any."""
        document = load(await read_all(http, self._limit))
        return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _json(value: object) -> Reply:
    return Reply(200, msgspec.json.encode(value), JSON)


def _require_name(name: str) -> None:
    if not name:
        raise InvalidArgumentError("'region name' is necessary to register shared memory region")


def _field(document: dict[str, Any], field: str) -> object:
    if field not in document:
        raise InvalidArgumentError(f"Shared memory register request has no '{field}' field")
    return document[field]


def _member(value: object, member: str) -> object:
    members = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if member not in members:
        raise InternalError(f"attempt to access non-existing object member '{member}'")
    return members[member]


def _text(value: object) -> str:
    if type(value) is not str:
        raise InternalError("attempt to access JSON non-string as string")
    return value


def _unsigned(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise InternalError("attempt to access JSON non-unsigned-integer as unsigned-integer")
    return value


def _raw_handle(text: str) -> bytes:
    try:
        handle = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        handle = b""
    if len(handle) != HANDLE_BYTES:
        raise InvalidArgumentError("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
    return handle
