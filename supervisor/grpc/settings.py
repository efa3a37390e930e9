"""The settings that clients may change while the server runs, over gRPC: log and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ipc.errors import InvalidArgumentError, StatusError
from ...proto import grpc_service_pb2 as pb
from ..log import LOG_FLAGS, described

if TYPE_CHECKING:
    from ..controlplane import ControlPlane

#: What each log setting is sent as, and how Triton calls that.
_KINDS = {
    **dict.fromkeys(LOG_FLAGS, ("bool_param", "boolean")),
    "log_verbose_level": ("uint32_param", "int32"),
    "log_format": ("string_param", "string"),
}


class SettingsService:
    """The calls that read and change settings; each may do both."""

    def __init__(self, controlplane: ControlPlane) -> None:
        self._controlplane = controlplane

    async def log_settings(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Change what the request names of the log's settings, and tell all of them."""
        log = self._controlplane.log
        if request.settings:
            log.update(_log_changes(request), _bad_format)
        response = pb.LogSettingsResponse()
        for name, value in described(log.settings).items():
            setting = response.settings[name]
            if isinstance(value, bool):
                setting.bool_param = value
            elif isinstance(value, int):
                setting.uint32_param = value
            else:
                setting.string_param = value
        return response

    async def trace_setting(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Change what the request names of the trace settings, and tell all of them."""
        model = request.model_name
        self._controlplane.trace_settings(model)
        if request.settings:
            changes = {
                name: list(setting.value) or None for name, setting in request.settings.items()
            }
            self._controlplane.update_trace_settings(model, changes, " ")
        response = pb.TraceSettingResponse()
        for name, value in self._controlplane.trace_settings(model):
            values = [value] if isinstance(value, str) else value
            response.settings[name].value.extend(values)
        return response


def _log_changes(request: pb.LogSettingsRequest) -> dict[str, bool | int | str]:
    changes: dict[str, bool | int | str] = {}
    for name, setting in request.settings.items():
        choice = setting.WhichOneof("parameter_choice")
        if choice is None:  # how Python clients spell null: left as it is
            continue
        expected, kind = _KINDS.get(name, (choice, ""))
        if choice != expected:
            raise InvalidArgumentError(f"expect {kind} for '{name}'")
        changes[name] = getattr(setting, choice)
    return changes


def _bad_format(value: str) -> StatusError:
    return InvalidArgumentError(f"invalid argument for log_format, got: {value}")
