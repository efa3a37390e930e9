"""The OpenAPI document of the HTTP service, written by hand and held to the routes by a test.

Paths below a model exist with and without `/versions/{version}`, and are written once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from .openapi_schemas import SCHEMAS, array, ref

_Object = dict[str, Any]

_TAGS = {
    "health": "Whether the server and its models can be used",
    "metadata": "What the server and its models are",
    "model-config": "How models are configured",
    "inference": "Running models",
    "statistics": "What requests have cost",
    "model-repository": "Loading and unloading models",
    "shared-memory": "Memory that clients share with the server",
    "trace": "How requests are traced",
    "logging": "What the server logs",
}

_DESCRIPTION = (
    "Version 2 of the inference protocol, as NVIDIA Triton Inference Server speaks it. "
    "`GET /v2/models`, `GET /v2/openapi.json`, `/v2/models/{model}/traffic` and "
    "`/v2/models/{model}/instances` are beyond Triton. "
    "Tags are the categories of `--http-restricted-api`. Metrics are on a port of their own."
)

_PARAMETERS: _Object = {
    "model": {"description": "The name of a model", "schema": {"type": "string"}},
    "version": {
        "description": "A version of the model; without it the latest one that is ready",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "region": {"description": "The name of a region", "schema": {"type": "string"}},
    "repository": {
        "description": "Not supported: answered with 501, and ignored by the index",
        "schema": {"type": "string"},
    },
}
_HEADER_LENGTH: _Object = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": (
        "How many bytes of the body are JSON; binary tensors follow them. "
        "0 if the body is the only input of the model, as it is"
    ),
    "schema": {"type": "string"},
}


@cache
def document(version: str) -> bytes:
    """The document as JSON; `version` is the server's."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "tritonpy-supervisor",
                "version": version,
                "description": _DESCRIPTION,
            },
            "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
            "paths": _paths(),
            "components": {
                "schemas": SCHEMAS,
                "parameters": {
                    name: {"name": name, "in": "path", "required": True, **parameter}
                    for name, parameter in _PARAMETERS.items()
                },
                "responses": {
                    "Error": {
                        "description": "What is wrong, in one sentence",
                        "content": {
                            media: {"schema": ref("Error")}
                            for media in ("application/json", "text/plain")
                        },
                    }
                },
            },
        }
    )


def _paths() -> dict[str, _Object]:
    paths: dict[str, _Object] = {
        "/v2": {"get": _get("metadata", "The server and its extensions", "ServerMetadata")},
        "/v2/openapi.json": {"get": _get("metadata", "This document", {"type": "object"})},
        "/v2/health/live": {"get": _health("Whether the server is up")},
        "/v2/health/ready": {"get": _health("Whether the server and its models can be used")},
        "/v2/models": {"get": _get("metadata", "All models with their states", "ModelList")},
        "/v2/models/stats": {"get": _get("statistics", "Statistics of all models", "Statistics")},
        "/v2/logging": _settings("logging", "the log", "LogSettings"),
        "/v2/trace/setting": _settings("trace", "tracing", "TraceSettings"),
        "/v2/models/{model}/trace/setting": _settings(
            "trace", "tracing one model", "TraceSettings"
        ),
        "/v2/models/{model}/traffic": {
            "get": _get("model-repository", "How requests are shared among versions", "Traffic"),
            "post": _post(
                "model-repository",
                "Share requests among versions by a rule; by null again as configured",
                "TrafficRule",
                "Traffic",
                required=True,
            ),
        },
        **_repository_paths(),
        **_shared_memory_paths("system", "SystemRegion", "SystemRegionRequest"),
        **_shared_memory_paths("cuda", "CudaRegion", "CudaRegionRequest"),
    }
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        for kind, item in _model_paths().items():
            paths[base + kind] = item
    for path, item in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    return paths


def _model_paths() -> dict[str, _Object]:
    return {
        "": {"get": _get("metadata", "The inputs and outputs of a model", "ModelMetadata")},
        "/ready": {"get": _health("Whether a model can be used")},
        "/config": {"get": _get("model-config", "The completed configuration", "ModelConfig")},
        "/stats": {"get": _get("statistics", "Statistics of a model", "Statistics")},
        "/instances": {
            "get": _get("model-repository", "The instances of versions that serve", "Instances"),
            "post": _post(
                "model-repository",
                "Give an instance group another count, and wait until the new ones serve",
                "ScaleRequest",
                "Instances",
                required=True,
            ),
        },
        "/infer": {"post": _infer()},
        "/generate": {
            "post": _post(
                "inference",
                "Run a request that has one response, in flat JSON",
                "GenerateRequest",
                "GenerateResponse",
                required=True,
            )
        },
        "/generate_stream": {"post": _generate_stream()},
    }


def _repository_paths() -> dict[str, _Object]:
    paths: dict[str, _Object] = {}
    for base in ("/v2/repository", "/v2/repository/{repository}"):
        tag = "model-repository"
        paths[f"{base}/index"] = {
            "post": _post(tag, "All models and versions", "IndexRequest", "RepositoryIndex")
        }
        paths[f"{base}/models/{{model}}/load"] = {
            "post": _post(tag, "Load or reload a model, and wait for it", "LoadRequest")
        }
        paths[f"{base}/models/{{model}}/unload"] = {
            "post": _post(tag, "Unload a model", "UnloadRequest")
        }
    return paths


def _shared_memory_paths(kind: str, region: str, request: str) -> dict[str, _Object]:
    tag, base = "shared-memory", f"/v2/{kind}sharedmemory"
    status = _get(tag, f"Registered {kind} regions", array(ref(region)))
    return {
        f"{base}/status": {"get": status},
        f"{base}/unregister": {"post": _post(tag, f"Forget all {kind} regions")},
        f"{base}/region/{{region}}/status": {"get": dict(status, summary="One region, in a list")},
        f"{base}/region/{{region}}/register": {
            "post": _post(tag, f"Register a {kind} region", request, required=True)
        },
        f"{base}/region/{{region}}/unregister": {"post": _post(tag, "Forget a region")},
    }


def _settings(tag: str, what: str, schema: str) -> _Object:
    return {
        "get": _get(tag, f"The settings of {what}", schema),
        "post": _post(tag, f"Change settings of {what}", schema, schema),
    }


def _infer() -> _Object:
    octets = {"schema": {"type": "string", "contentEncoding": "binary"}}
    operation = _post("inference", "Run a model", "InferRequest", "InferResponse", required=True)
    operation["parameters"] = [_HEADER_LENGTH]
    operation["description"] = (
        "Bodies may be compressed by gzip or deflate (`Content-Encoding`, `Accept-Encoding`)."
    )
    operation["requestBody"]["content"]["application/octet-stream"] = octets
    answer = operation["responses"]["200"]
    answer["content"]["application/octet-stream"] = octets
    answer["headers"] = {
        "Inference-Header-Content-Length": {
            "description": "How many bytes are JSON; there if binary outputs follow",
            "schema": {"type": "string"},
        }
    }
    return operation


def _generate_stream() -> _Object:
    operation = _post(
        "inference", "Run a request; its responses are events", "GenerateRequest", required=True
    )
    operation["responses"]["200"] = {
        "description": "Events `data: {…}`, each a GenerateResponse or an Error",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return operation


def _health(summary: str) -> _Object:
    return {
        "tags": ["health"],
        "summary": summary,
        "responses": {
            "200": {"description": "Yes"},
            "400": {"description": "No"},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _get(tag: str, summary: str, schema: str | _Object) -> _Object:
    return {"tags": [tag], "summary": summary, "responses": _responses(schema)}


def _post(
    tag: str,
    summary: str,
    request: str | None = None,
    response: str | None = None,
    *,
    required: bool = False,
) -> _Object:
    operation: _Object = {"tags": [tag], "summary": summary, "responses": _responses(response)}
    if request is not None:
        operation["requestBody"] = {"required": required, "content": _json(request)}
    return operation


def _responses(schema: str | _Object | None) -> _Object:
    success: _Object = {"description": "Done"}
    if schema is not None:
        success["content"] = _json(schema)
    return {"200": success, "default": {"$ref": "#/components/responses/Error"}}


def _json(schema: str | _Object) -> _Object:
    return {"application/json": {"schema": ref(schema) if isinstance(schema, str) else schema}}
