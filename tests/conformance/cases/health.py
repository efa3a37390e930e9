"""Health, metadata and configuration of servers and models, over both protocols."""

from __future__ import annotations

from ..case import Area, Case, Grpc, Http
from ..setups import PROTOCOL


def _get(path: str, *normalise: str) -> Http:
    return Http(f"GET {path}", "GET", path, normalise=normalise)


def _of(rpc: str, label: str = "", *normalise: str, **fields: str) -> Grpc:
    given = label or ", ".join(f"{key} {value!r}" for key, value in fields.items())
    return Grpc(f"{rpc} {given}".strip(), rpc, dict(fields), normalise)


_MODELS = ("identity", "versions", "pair", "dynamic", "optional", "types", "completed", "described")

_LOOKUPS = [
    "nope",
    "nope/versions/1",
    "identity/versions/9",
    "identity/versions/abc",
    "identity/versions/0",
    "identity/versions/-1",
    "identity/versions/01",
    "identity/versions/1.0",
    "identity/versions/99999999999999999999",
    "identity/versions/",
    "ident%69ty",
    "IDENTITY",
]
_VERSIONS = ["9", "x", "-1", "0", "1x", " 1", "1 ", "01", "+1", "1.5", "99999999999999999999"]

_HTTP: list[Case] = [
    _get("/v2/health/live"),
    _get("/v2/health/ready"),
    _get("/v2/models/identity/ready"),
    _get("/v2/models/identity/versions/1/ready"),
    _get("/v2/models/versions/versions/3/ready"),
    _get("/v2/models/versions/versions/2/ready"),
    *(_get(f"/v2/models/{lookup}/ready") for lookup in _LOOKUPS),
    *(_get(f"/v2/models/{model}") for model in _MODELS),
    _get("/v2/models/versions/versions/1"),
    *(_get(f"/v2/models/{lookup}") for lookup in _LOOKUPS),
    *(_get(f"/v2/models/{model}/config", "keys_in_any_order") for model in _MODELS),
    _get("/v2/models/versions/versions/3/config", "keys_in_any_order"),
    _get("/v2/models/nope/config"),
    _get("/v2/models/identity/versions/9/config"),
]

_GRPC: list[Case] = [
    _of("ServerLive"),
    _of("ServerReady"),
    _of("ModelReady", name="identity"),
    _of("ModelReady", name="versions", version="3"),
    _of("ModelReady", name="nope"),
    _of("ModelReady", name="identity", version="9"),
    _of("ModelReady", name="identity", version="x"),
    _of("ModelReady", "no name"),
    *(_of("ModelMetadata", name=model) for model in _MODELS),
    _of("ModelMetadata", name="versions", version="1"),
    _of("ModelMetadata", name="nope"),
    _of("ModelMetadata", "no name"),
    *(_of("ModelMetadata", name="identity", version=version) for version in _VERSIONS),
    *(_of("ModelConfig", name=model) for model in _MODELS),
    _of("ModelConfig", name="nope"),
    _of("ModelConfig", name="identity", version="9"),
    _of("ModelConfig", name="identity", version="x"),
    Grpc("health check", "/grpc.health.v1.Health/Check", b""),
    Grpc("health check of a service", "/grpc.health.v1.Health/Check", b"\x0a\x01x"),
    Grpc("health watch", "/grpc.health.v1.Health/Watch", b""),
    Grpc("unknown method", "/inference.GRPCInferenceService/Nope", b""),
    Grpc("no message", "/inference.GRPCInferenceService/ModelInfer", b"\xff\xff\xff"),
    Grpc("no message to health", "/inference.GRPCInferenceService/ServerLive", b"\xff\xff"),
]

#: Lists the extensions, and so is the same only when all of them are offered.
_SERVER: list[Case] = [
    _get("/v2", "server_version"),
    _get("/v2?x=1", "server_version"),
    _of("ServerMetadata", "", "server_version"),
]

AREAS = [Area("health", PROTOCOL, [*_HTTP, *_GRPC]), Area("server metadata", PROTOCOL, _SERVER)]
