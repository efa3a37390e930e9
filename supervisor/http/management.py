"""What the control plane answers over HTTP: metadata, configuration, statistics, the repository."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web

from ...ipc.errors import (
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from ..config.parse import to_json
from . import openapi
from .body import read_all
from .compression import THREAD_LIMIT_BYTES
from .json_document import boolean, load
from .reply import JSON, Reply, error_body

if TYPE_CHECKING:
    from ..controlplane import ControlPlane, TensorMetadata
    from ..telemetry.statistics import StatisticsSnapshot

#: The members of a statistics entry, in Triton's order; the snapshot's other fields are internal.
_STATISTICS = (
    "name",
    "version",
    "last_inference",
    "inference_count",
    "execution_count",
    "inference_stats",
    "response_stats",
    "batch_stats",
    "memory_usage",
)


class Management:
    """Answers everything but inference. Each method is one endpoint and raises StatusError."""

    def __init__(self, controlplane: ControlPlane, max_input_size: int) -> None:
        self._controlplane = controlplane
        self._limit = max_input_size

    # --- health -----------------------------------------------------------------------------------

    async def live(self, http: web.BaseRequest) -> Reply:
        """Whether the server has come up."""
        return self._health(self._controlplane.is_live())

    async def ready(self, http: web.BaseRequest) -> Reply:
        """Whether the server and its models can serve."""
        return self._health(await self._controlplane.is_ready())

    def _health(self, good: bool) -> Reply:
        if self._controlplane.exiting:
            return Reply(503, error_body("Server exiting"))
        return Reply(200 if good else 400)

    async def model_ready(self, http: web.BaseRequest, model: str, version: int | None) -> Reply:
        """Whether one model version can serve."""
        if await self._controlplane.is_model_ready(model, version):
            return Reply(200)
        return Reply(400, error_body("Model version not ready"))

    # --- metadata ---------------------------------------------------------------------------------

    async def server_metadata(self, http: web.BaseRequest) -> Reply:
        """Name, version and extensions of the server."""
        self._check_running()
        metadata = self._controlplane.server_metadata()
        return _json(
            {
                "name": metadata.name,
                "version": metadata.version,
                "extensions": metadata.extensions,
            }
        )

    async def model_metadata(self, http: web.BaseRequest, model: str, version: int | None) -> Reply:
        """Versions, platform, inputs and outputs of a model."""
        self._check_running()
        async with self._controlplane.using(model):
            metadata = self._controlplane.model_metadata(model, version)
        return _json(
            {
                "name": metadata.name,
                "versions": metadata.versions,
                "platform": metadata.platform,
                "inputs": [_tensor(tensor) for tensor in metadata.inputs],
                "outputs": [_tensor(tensor) for tensor in metadata.outputs],
            }
        )

    async def model_config(self, http: web.BaseRequest, model: str, version: int | None) -> Reply:
        """The completed configuration of a model."""
        self._check_running()
        async with self._controlplane.using(model):
            config = self._controlplane.model_config(model, version)
        return Reply(200, to_json(config).encode(), JSON)

    async def statistics(
        self, http: web.BaseRequest, model: str = "", version: int | None = None
    ) -> Reply:
        """The statistics of a model version, of a model, or of all of them."""
        self._check_running()
        snapshots = self._controlplane.statistics(model, version)
        return _json({"model_stats": [_statistics(snapshot) for snapshot in snapshots]})

    async def openapi(self, http: web.BaseRequest) -> Reply:
        """The OpenAPI document of this service."""
        return Reply(200, openapi.document(self._controlplane.server_metadata().version), JSON)

    # --- repository -------------------------------------------------------------------------------

    async def index(self, http: web.BaseRequest) -> Reply:
        """What the repositories hold and in which state it is."""
        document = await self._document(http)
        self._check_running()
        ready = document.get("ready", False)
        if type(ready) is not bool:
            raise InvalidArgumentError("Invalid value for 'ready': expected a boolean")
        entries: list[dict[str, str]] = []
        for model in self._controlplane.index(ready):
            entry = {"name": model.name}
            for member in ("version", "state", "reason"):
                value = getattr(model, member)
                if value:
                    entry[member] = value
            entries.append(entry)
        return _json(entries)

    async def models(self, http: web.BaseRequest) -> Reply:
        """All models with the states of their versions; Triton has no such call."""
        self._check_running()
        models: dict[tuple[str, str], dict[str, Any]] = {}
        for line in self._controlplane.index(ready=False):
            model = models.get(line.identifier)
            if model is None:
                model = models[line.identifier] = {"name": line.name, "versions": []}
                if line.namespace:
                    model["namespace"] = line.namespace
            if line.version:
                model["versions"].append(
                    {"version": line.version, "state": line.state, "reason": line.reason}
                )
            elif line.reason:
                model["reason"] = line.reason
        return _json({"models": list(models.values())})

    async def load(self, http: web.BaseRequest, model: str) -> Reply:
        """Load or reload a model, with another configuration or files if the body has them."""
        document = await self._document(http)
        self._check_running()
        parameters: dict[str, str | bytes | int | bool] = {}
        for key, value in _members(document.get("parameters", {})).items():
            if type(value) is not str:
                raise InternalError("attempt to access JSON non-string as string")
            if key in ("config", "versions"):
                parameters[key] = value
            elif key.startswith("file:"):
                parameters[key] = _decode_base64(key, value)
            else:
                raise InternalError("unexpected error on creating Triton parameter")
        await self._controlplane.load(model, parameters)
        return Reply(200, b"", JSON)

    async def unload(self, http: web.BaseRequest, model: str) -> Reply:
        """Unload a model, and what only it needs if the body says so."""
        document = await self._document(http)
        self._check_running()
        dependents = _members(document.get("parameters", {})).get("unload_dependents", False)
        await self._controlplane.unload(
            model, boolean(dependents, "Unable to parse 'unload_dependents'")
        )
        return Reply(200, b"", JSON)

    async def _document(self, http: web.BaseRequest) -> dict[str, Any]:
        """The body's JSON object; an empty body, or another value, has no members."""
        body = await read_all(http, self._limit)
        if not body:
            return {}
        if len(body) <= THREAD_LIMIT_BYTES:
            document = load(body)
        else:
            document = await asyncio.get_running_loop().run_in_executor(None, load, body)
        return cast("dict[str, Any]", document) if isinstance(document, dict) else {}

    def _check_running(self) -> None:
        if self._controlplane.exiting or not self._controlplane.is_live():
            raise UnavailableError("Server not ready")


def _json(value: object) -> Reply:
    return Reply(200, msgspec.json.encode(value), JSON)


def _tensor(tensor: TensorMetadata) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _statistics(snapshot: StatisticsSnapshot) -> dict[str, object]:
    return {member: getattr(snapshot, member) for member in _STATISTICS}


def _members(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InternalError("attempt to get members for non-object")
    return cast("dict[str, Any]", value)


def _decode_base64(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        raise InvalidArgumentError(
            f"the value of load parameter '{key}' is not base64 text"
        ) from None
