"""System and CUDA shared memory, as far as it can be asked without a client's region."""

from __future__ import annotations

import base64
import json
from typing import Any

from ..case import Area, Case, Grpc, Http
from ..requests import ask, call, tensor, wire_tensor
from ..setups import EXTENSIONS


def _post(name: str, path: str, body: Any = "") -> Http:
    text = body if isinstance(body, str) else json.dumps(body)
    return Http(name, "POST", f"/v2/{path}", text.encode())


def _get(path: str) -> Http:
    return Http(f"GET {path}", "GET", f"/v2/{path}")


_SYSTEM = "systemsharedmemory"
_CUDA = "cudasharedmemory"
_REGION = {"shared_memory_region": "nope", "shared_memory_byte_size": 16}

_CASES: list[Case] = [
    *(
        case
        for kind in (_SYSTEM, _CUDA)
        for case in (
            _get(f"{kind}/status"),
            _get(f"{kind}/region/nope/status"),
            _get(f"{kind}/region/nope/register"),
            _get(kind),
            _post(f"{kind} unregister all", f"{kind}/unregister"),
            _post(f"{kind} unregister unknown", f"{kind}/region/nope/unregister"),
            _post(f"{kind} status by POST", f"{kind}/status"),
            _post(f"{kind} register empty", f"{kind}/region/r/register"),
            _post(f"{kind} register no JSON", f"{kind}/region/r/register", "{"),
            _post(f"{kind} register empty object", f"{kind}/region/r/register", {}),
        )
    ),
    _post(
        "system absent segment",
        f"{_SYSTEM}/region/r/register",
        {"key": "/tritonpy_no_such_segment", "byte_size": 16},
    ),
    _post("system without size", f"{_SYSTEM}/region/r/register", {"key": "/tritonpy_none"}),
    _post("system key a number", f"{_SYSTEM}/region/r/register", {"key": 5, "byte_size": 16}),
    _post(
        "system size negative",
        f"{_SYSTEM}/region/r/register",
        {"key": "/tritonpy_none", "byte_size": -1},
    ),
    _post(
        "system reserved key",
        f"{_SYSTEM}/region/r/register",
        {"key": "triton_python_backend_shm_region_x", "byte_size": 16},
    ),
    _post(
        "cuda without a GPU",
        f"{_CUDA}/region/r/register",
        {
            "raw_handle": {"b64": base64.b64encode(bytes(64)).decode()},
            "device_id": 0,
            "byte_size": 16,
        },
    ),
    _post(
        "cuda handle no base64",
        f"{_CUDA}/region/r/register",
        {"raw_handle": {"b64": "???"}, "device_id": 0, "byte_size": 16},
    ),
    ask("input in an unknown region", [tensor(data=..., parameters=_REGION)]),
    ask("output in an unknown region", outputs=[{"name": "OUT", "parameters": _REGION}]),
    ask("input in a region and data", [tensor(parameters=_REGION)]),
    ask(
        "output in a region and binary",
        outputs=[{"name": "OUT", "parameters": {**_REGION, "binary_data": True}}],
    ),
    ask(
        "output in a region and classified",
        outputs=[{"name": "OUT", "parameters": {**_REGION, "classification": 1}}],
    ),
    ask("region without a size", [tensor(data=..., parameters={"shared_memory_region": "nope"})]),
    ask(
        "region a number",
        [tensor(data=..., parameters={"shared_memory_region": 5, "shared_memory_byte_size": 16})],
    ),
    call("gRPC input in an unknown region", inputs=[wire_tensor(more=_REGION)], raw=[]),
    call("gRPC output in an unknown region", outputs={"OUT": _REGION}),
    call(
        "gRPC region without a size",
        inputs=[wire_tensor(more={"shared_memory_region": "nope"})],
        raw=[],
    ),
    Grpc("SystemSharedMemoryStatus", "SystemSharedMemoryStatus"),
    Grpc("SystemSharedMemoryStatus unknown", "SystemSharedMemoryStatus", {"name": "nope"}),
    Grpc("SystemSharedMemoryUnregister", "SystemSharedMemoryUnregister"),
    Grpc("SystemSharedMemoryUnregister unknown", "SystemSharedMemoryUnregister", {"name": "nope"}),
    Grpc(
        "SystemSharedMemoryRegister absent",
        "SystemSharedMemoryRegister",
        {"name": "r", "key": "/tritonpy_no_such_segment", "byte_size": 16},
    ),
    Grpc("CudaSharedMemoryStatus", "CudaSharedMemoryStatus"),
    Grpc("CudaSharedMemoryStatus unknown", "CudaSharedMemoryStatus", {"name": "nope"}),
    Grpc("CudaSharedMemoryUnregister", "CudaSharedMemoryUnregister"),
    Grpc(
        "CudaSharedMemoryRegister",
        "CudaSharedMemoryRegister",
        {"name": "r", "raw_handle": bytes(64), "device_id": 0, "byte_size": 16},
    ),
]

AREAS = [Area("shared memory", EXTENSIONS, _CASES)]
