"""Trace and log settings."""

from __future__ import annotations

import json
from typing import Any

from ..case import Area, Case, Grpc, Http
from ..setups import EXTENSIONS

_TRACE = "/v2/trace/setting"
_MODEL_TRACE = "/v2/models/identity/trace/setting"
_LOGGING = "/v2/logging"


def _get(path: str, name: str = "") -> Http:
    return Http(name or f"GET {path}", "GET", path)


def _post(name: str, path: str, body: Any) -> Http:
    text = body if isinstance(body, str) else json.dumps(body)
    return Http(name, "POST", path, text.encode())


_TRACES: list[Case] = [
    _get(_TRACE),
    _get(_MODEL_TRACE),
    _get("/v2/models/nope/trace/setting"),
    _get("/v2/models/identity/versions/1/trace/setting"),
    Http("PUT", "PUT", _TRACE),
    _post("nothing", _TRACE, ""),
    _post("no JSON", _TRACE, "{"),
    _post("empty object", _TRACE, {}),
    _post("rate", _TRACE, {"trace_rate": "10"}),
    _post("rate a number", _TRACE, {"trace_rate": 10}),
    _post("rate a word", _TRACE, {"trace_rate": "ten"}),
    _post("count", _TRACE, {"trace_count": "5"}),
    _post("count too small", _TRACE, {"trace_count": "-2"}),
    _post("log frequency", _TRACE, {"log_frequency": "3"}),
    _post("file", _TRACE, {"trace_file": "/tmp/trace.json"}),
    _post("level of a text", _TRACE, {"trace_level": "TIMESTAMPS"}),
    _post("level off and on", _TRACE, {"trace_level": ["OFF", "TIMESTAMPS"]}),
    _post("level unknown", _TRACE, {"trace_level": ["NOPE"]}),
    _post("unknown setting", _TRACE, {"nope": "1"}),
    _post("model rate", _MODEL_TRACE, {"trace_rate": "7"}),
    _get(_MODEL_TRACE, "model after its rate"),
    _post("model cleared", _MODEL_TRACE, {"trace_rate": None}),
    _post("cleared", _TRACE, {"trace_rate": None, "trace_count": None, "log_frequency": None}),
    _get(_TRACE, "at the end"),
    Grpc("gRPC", "TraceSetting"),
    Grpc("gRPC of a model", "TraceSetting", {"model_name": "identity"}),
    Grpc("gRPC of an unknown model", "TraceSetting", {"model_name": "nope"}),
    Grpc("gRPC rate", "TraceSetting", {"settings": {"trace_rate": {"value": ["20"]}}}),
    Grpc("gRPC two rates", "TraceSetting", {"settings": {"trace_rate": {"value": ["1", "2"]}}}),
    Grpc("gRPC file", "TraceSetting", {"settings": {"trace_file": {"value": ["x"]}}}),
    Grpc("gRPC unknown", "TraceSetting", {"settings": {"nope": {"value": ["x"]}}}),
    Grpc("gRPC cleared", "TraceSetting", {"settings": {"trace_rate": {}}}),
]

_LOGS: list[Case] = [
    _get(_LOGGING),
    Http("PUT", "PUT", _LOGGING),
    _post("nothing", _LOGGING, ""),
    _post("no JSON", _LOGGING, "{"),
    _post("empty object", _LOGGING, {}),
    _post("verbose level", _LOGGING, {"log_verbose_level": 1}),
    _post("verbose level back", _LOGGING, {"log_verbose_level": 0}),
    _post("verbose level a text", _LOGGING, {"log_verbose_level": "1"}),
    _post("verbose level negative", _LOGGING, {"log_verbose_level": -1}),
    _post("warnings off", _LOGGING, {"log_warning": False}),
    _post("warnings on", _LOGGING, {"log_warning": True}),
    _post("warnings a number", _LOGGING, {"log_warning": 1}),
    _post("format", _LOGGING, {"log_format": "ISO8601"}),
    _post("format back", _LOGGING, {"log_format": "default"}),
    _post("format unknown", _LOGGING, {"log_format": "nope"}),
    _post("file", _LOGGING, {"log_file": "/tmp/log"}),
    _post("null", _LOGGING, {"log_info": None}),
    _post("unknown", _LOGGING, {"nope": 1}),
    Grpc("gRPC", "LogSettings"),
    Grpc("gRPC level", "LogSettings", {"settings": {"log_verbose_level": {"uint32_param": 1}}}),
    Grpc("gRPC back", "LogSettings", {"settings": {"log_verbose_level": {"uint32_param": 0}}}),
    Grpc("gRPC text", "LogSettings", {"settings": {"log_info": {"string_param": "x"}}}),
    Grpc("gRPC format", "LogSettings", {"settings": {"log_format": {"string_param": "nope"}}}),
    Grpc("gRPC file", "LogSettings", {"settings": {"log_file": {"string_param": "x"}}}),
    Grpc("gRPC unknown", "LogSettings", {"settings": {"nope": {"bool_param": True}}}),
]

AREAS = [Area("trace", EXTENSIONS, _TRACES), Area("logging", EXTENSIONS, _LOGS)]
