"""Restricted groups of calls: what is answered without their header, and with it."""

from __future__ import annotations

from collections.abc import Mapping

from ..case import Area, Case, Grpc, Http, Stream
from ..setups import RESTRICTED

_KEY = {"Admin-Key": "a=b"}

#: A call of every group, by HTTP; `health` stays open, for the recorder waits for it.
_CALLS = [
    ("GET", "/v2"),
    ("GET", "/v2/models/identity"),
    ("GET", "/v2/models/identity/config"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/nope/stats"),
    ("GET", "/v2/logging"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/models/identity/trace/setting"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/region/r/status"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/other/index"),
    ("POST", "/v2/repository/models/identity/load"),
    ("POST", "/v2/models/identity/infer"),
    ("POST", "/v2/models/identity/generate"),
    # another method, another version, another place
    ("PUT", "/v2/logging"),
    ("GET", "/v2/models/identity/infer"),
    ("POST", "/v2/models/identity/versions/9/config"),
    ("GET", "/v2/nowhere"),
]

_RPCS = [
    "ServerMetadata",
    "ModelMetadata",
    "ModelConfig",
    "ModelStatistics",
    "ModelInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
]


def _http(
    method: str, path: str, headers: Mapping[str, str | None] | None = None, label: str = ""
) -> Http:
    return Http(f"{method} {path}{label}", method, path, b"", headers or {})


_CASES: list[Case] = [
    *(_http(method, path) for method, path in _CALLS),
    _http("GET", "/v2/models/identity/ready"),
    _http("GET", "/v2/models/nope", _KEY, " with the header"),
    _http("GET", "/v2/models/nope", {"admin-key": "a=b"}, " with the header in lower case"),
    _http("GET", "/v2/models/nope", {"Admin-Key": "A=B"}, " with a value in upper case"),
    _http("GET", "/v2/models/nope", {"Admin-Key": ""}, " with an empty header"),
    _http("GET", "/v2/models/nope", {"Admin-Key": "a"}, " with the beginning of the value"),
    _http("POST", "/v2/models/identity/config", _KEY, " with the header"),
    *(Grpc(rpc, rpc) for rpc in _RPCS),
    Grpc("ServerReady", "ServerReady"),
    Grpc("Check", "/grpc.health.v1.Health/Check", b""),
    Stream("a stream", [{"model_name": "nope"}]),
]

AREAS = [Area("restricted groups", RESTRICTED, _CASES)]
