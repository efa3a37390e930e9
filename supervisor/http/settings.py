"""What clients may set while the server runs, over HTTP: log, traces, traffic and instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web

from ...ipc.errors import InternalError, StatusError, UnavailableError
from ..log import LOG_FLAGS, described
from .body import read_all
from .json_document import load
from .reply import JSON, Reply, error_body

if TYPE_CHECKING:
    from ..controlplane import ControlPlane


class SettingsEndpoints:
    """Reads settings by GET and changes them by POST. Each method is one endpoint."""

    def __init__(self, controlplane: ControlPlane, max_input_size: int) -> None:
        self._controlplane = controlplane
        self._limit = max_input_size

    async def logging(self, http: web.BaseRequest) -> Reply:
        """The settings of the log, changed first if it is a POST. null leaves one as it is."""
        if http.method not in ("GET", "POST"):
            return Reply(405, error_body("Method Not Allowed"), JSON)
        log = self._controlplane.log
        if http.method == "POST":
            document = await self._document(http)
            log.update(_log_changes(document), _bad_format)
        return Reply(200, msgspec.json.encode(described(log.settings)), JSON)

    async def traffic(self, http: web.BaseRequest, model: str, version: int | None = None) -> Reply:
        """How a model's traffic is split, changed first if it is a POST. null takes a change back.

        `version` is always None: it is split among versions.
        """
        if http.method not in ("GET", "POST"):
            return Reply(405, error_body("Method Not Allowed"), JSON)
        if http.method == "POST":
            self._controlplane.set_traffic(model, await read_all(http, self._limit))
        return Reply(200, msgspec.json.encode(self._controlplane.traffic(model)), JSON)

    async def instances(
        self, http: web.BaseRequest, model: str, version: int | None = None
    ) -> Reply:
        """The instances of a model's versions or of one, changed first if it is a POST."""
        if http.method not in ("GET", "POST"):
            return Reply(405, error_body("Method Not Allowed"), JSON)
        if http.method == "POST":
            document = await read_all(http, self._limit)
            await self._controlplane.scale(model, version, document)
        versions = self._controlplane.instances(model, version)
        return Reply(200, msgspec.json.encode({"versions": versions}), JSON)

    async def trace(
        self, http: web.BaseRequest, model: str = "", version: int | None = None
    ) -> Reply:
        """The trace settings of a model or of all, changed first if it is a POST. null clears one.

        `version` is always None: settings are those of all versions.
        """
        if http.method not in ("GET", "POST"):
            return Reply(405, error_body("Method Not Allowed"), JSON)
        if http.method == "POST":
            self._controlplane.trace_settings(model)
            document = await self._document(http)
            self._controlplane.update_trace_settings(model, _trace_changes(document), "")
        members = [
            b"%b:%b" % (msgspec.json.encode(name), msgspec.json.encode(value))
            for name, value in self._controlplane.trace_settings(model)
        ]
        return Reply(200, b"{%b}" % b",".join(members), JSON)

    async def _document(self, http: web.BaseRequest) -> dict[str, Any]:
        """The members of the body's JSON value; only an object has any."""
        document = load(await read_all(http, self._limit))
        return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _log_changes(document: dict[str, Any]) -> dict[str, bool | int | str]:
    changes: dict[str, bool | int | str] = {}
    for name, value in document.items():
        if value is None:
            continue
        if name in LOG_FLAGS and type(value) is not bool:
            raise InternalError("attempt to access JSON non-boolean as boolean")
        if name == "log_verbose_level" and (type(value) is not int or not 0 <= value < 2**64):
            raise InternalError("attempt to access JSON non-unsigned-integer as unsigned-integer")
        if name == "log_format" and type(value) is not str:
            raise InternalError("attempt to access JSON non-string as string")
        changes[name] = value
    return changes


def _trace_changes(document: dict[str, Any]) -> dict[str, list[str] | None]:
    changes: dict[str, list[str] | None] = {}
    for name, value in document.items():
        if name == "trace_level" and value is not None:
            if not isinstance(value, list):
                raise InternalError("attempt to access JSON non-array as array")
            changes[name] = [_text(level) for level in cast("list[object]", value)]
        elif name in ("trace_rate", "trace_count", "log_frequency"):
            changes[name] = None if value is None else [_text(value)]
        elif name in ("trace_level", "trace_file"):
            changes[name] = None
    return changes


def _text(value: object) -> str:
    if type(value) is not str:
        raise InternalError("attempt to access JSON non-string as string")
    return value


def _bad_format(value: str) -> StatusError:
    return UnavailableError(f"invalid argument for --log_format, got: {value}")
