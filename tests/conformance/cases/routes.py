"""Paths and methods that exist and that do not, and requests that are hardly HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from ..case import Area, Case, Http, Wire
from ..setups import PROTOCOL

_ROUTES = """
GET /
GET /v1
GET /v3
GET /v2/
GET //v2
GET /v2/models
GET /v2/models/
GET /v2/models/identity/
GET /v2/models/identity/?x
GET /v2/models/identity?x=1
GET /v2/models/identity/nope
GET /v2/models/a/b
GET /v2/models/identity/versions
GET /v2/models/identity/versions/1/
GET /v2/models/identity/versions/1/nope
GET /v2/health
GET /v2/health/
GET /v2/health/nope
GET /v2/health/live/
GET /v2/health/live?x=1
GET /v2/repository
GET /v2/repository/index
GET /v2/repository/models/identity/load
GET /v2/repository/models/identity/unload
GET /v2/nope
POST /
POST /v2
POST /v2/health/live
POST /v2/health/ready
POST /v2/models/identity
POST /v2/models/identity/config
POST /v2/models/identity/ready
POST /v2/models/identity/stats
POST /v2/models/stats
POST /v2/models/identity/infer/
POST /v2/repository/models/identity
POST /v2/repository/models/identity/nope
POST /v2/repository/index/
GET /v2/models/identity/infer
GET /v2/models/nope/infer
GET /v2/models/identity/versions/1/infer
PUT /v2/models/identity/infer
DELETE /v2/models/identity/infer
PATCH /v2/models/identity/infer
OPTIONS /v2/models/identity/infer
PUT /v2/repository/index
DELETE /v2
OPTIONS /v2
OPTIONS *
HEAD /v2
HEAD /v2/health/live
HEAD /v2/models/identity
HEAD /nope
FOO /v2
TRACE /v2
"""


def _routes() -> Iterator[tuple[str, str, str]]:
    for line in _ROUTES.strip().splitlines():
        method, path = line.split(" ")
        yield line, method, path


_CASES: list[Case] = [
    *(Http(line, method, path) for line, method, path in _routes()),
    Wire("HTTP/1.0", b"GET /v2/health/live HTTP/1.0\r\n\r\n"),
    Wire("no host", b"GET /v2/health/live HTTP/1.1\r\n\r\n"),
    Wire("absolute address", b"GET http://localhost/v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"),
    Wire("not HTTP", b"GARBAGE\r\n\r\n"),
    Http("body of a GET", "GET", "/v2/health/live", b"hello"),
]

AREAS = [Area("routes", PROTOCOL, _CASES)]
