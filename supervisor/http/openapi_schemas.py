"""The JSON documents of the HTTP service as schemas, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from ...ipc.dtypes import DATATYPES
from ..models.scale import MOST_INSTANCES
from ..workers.states import WorkerState

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """A list of such things."""
    return {"type": "array", "items": items}


def _object(properties: Schema, *required: str, **more: Any) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, **more}
    if required:
        schema["required"] = list(required)
    return schema


def _whole(properties: Schema) -> Schema:
    return _object(properties, *properties)


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_NUMBER: Schema = {"type": "integer", "minimum": 0}
_SHAPE: Schema = array(_NUMBER)
_DATATYPE: Schema = {"type": "string", "enum": list(DATATYPES)}
_PARAMETER: Schema = {"type": ["string", "number", "boolean"]}
_DATA: Schema = {
    "description": "The elements in row-major order: nested lists, a flat list, or one element"
}
_STATES = ["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]
_STATE: Schema = {"type": "string", "enum": _STATES}
_DURATION = ref("Duration")

_REGION: Schema = {
    "shared_memory_region": _TEXT,
    "shared_memory_byte_size": _NUMBER,
    "shared_memory_offset": _NUMBER,
}
_ENCODING: Schema = {
    "binary_encoding": {
        "type": "string",
        "enum": ["base64"],
        "description": "What the strings of BYTES in `data` are; without it they are text",
    }
}
_INFER_INPUT = _object(
    {
        "name": _TEXT,
        "datatype": _DATATYPE,
        "shape": _SHAPE,
        "parameters": _object({"binary_data_size": _NUMBER, **_ENCODING, **_REGION}),
        "data": _DATA,
    },
    "name",
    "datatype",
    "shape",
)
_WANTED_OUTPUT = _object(
    {
        "name": _TEXT,
        "parameters": _object(
            {"classification": _NUMBER, "binary_data": _FLAG, **_ENCODING, **_REGION}
        ),
    },
    "name",
)
_INFER_OUTPUT = _object(
    {
        "name": _TEXT,
        "datatype": _DATATYPE,
        "shape": _SHAPE,
        "parameters": _object({"binary_data_size": _NUMBER, **_ENCODING, **_REGION}),
        "data": array({}),
    },
    "name",
    "datatype",
    "shape",
)
_REQUEST_PARAMETERS = _object(
    {
        "sequence_id": {"type": ["integer", "string"]},
        "sequence_start": _FLAG,
        "sequence_end": _FLAG,
        "priority": _NUMBER,
        "timeout": {**_NUMBER, "description": "In microseconds"},
        "binary_data_output": _FLAG,
    },
    additionalProperties=_PARAMETER,
)
_VERSION_STATISTICS = _object(
    {
        "name": _TEXT,
        "version": _TEXT,
        "last_inference": {**_NUMBER, "description": "Milliseconds since 1970"},
        "inference_count": _NUMBER,
        "execution_count": _NUMBER,
        "inference_stats": _map(_DURATION),
        "response_stats": _map(_map(_DURATION)),
        "batch_stats": array(
            _object(
                {
                    "batch_size": _NUMBER,
                    "compute_input": _DURATION,
                    "compute_infer": _DURATION,
                    "compute_output": _DURATION,
                }
            )
        ),
        "memory_usage": array(_object({"type": _TEXT, "id": _NUMBER, "byte_size": _NUMBER})),
    }
)

SCHEMAS: Schema = {
    "Error": _object({"error": _TEXT}, "error"),
    "ServerMetadata": _object(
        {"name": _TEXT, "version": _TEXT, "extensions": array(_TEXT)},
        "name",
        "version",
        "extensions",
    ),
    "TensorMetadata": _object(
        {
            "name": _TEXT,
            "datatype": _DATATYPE,
            "shape": array({"type": "integer", "minimum": -1}),
        },
        "name",
        "datatype",
        "shape",
    ),
    "ModelMetadata": _object(
        {
            "name": _TEXT,
            "versions": array(_TEXT),
            "platform": _TEXT,
            "inputs": array(ref("TensorMetadata")),
            "outputs": array(ref("TensorMetadata")),
        },
        "name",
        "versions",
        "platform",
        "inputs",
        "outputs",
    ),
    "ModelConfig": {
        "type": "object",
        "description": "Triton's ModelConfig message with its original field names",
    },
    "ModelList": _object(
        {
            "models": array(
                _object(
                    {
                        "name": _TEXT,
                        "namespace": {
                            **_TEXT,
                            "description": "Its repository; there with --model-namespacing only",
                        },
                        "versions": array(
                            _object(
                                {
                                    "version": _TEXT,
                                    "state": _STATE,
                                    "reason": {
                                        **_TEXT,
                                        "description": "Why it is in this state; may be empty",
                                    },
                                },
                                "version",
                                "state",
                                "reason",
                            )
                        ),
                        "reason": {
                            **_TEXT,
                            "description": "Why it has no versions; or that it is loaded on demand",
                        },
                    },
                    "name",
                    "versions",
                )
            )
        },
        "models",
    ),
    "RepositoryIndex": array(
        _object({"name": _TEXT, "version": _TEXT, "state": _STATE, "reason": _TEXT}, "name")
    ),
    "IndexRequest": _object({"ready": _FLAG}),
    "LoadRequest": _object(
        {
            "parameters": _object(
                {"config": {**_TEXT, "description": "A ModelConfig as JSON"}},
                patternProperties={
                    "^file:": {**_TEXT, "description": "The file's content in base64"}
                },
            )
        }
    ),
    "UnloadRequest": _object({"parameters": _object({"unload_dependents": _FLAG})}),
    "InferRequest": _object(
        {
            "id": _TEXT,
            "parameters": _REQUEST_PARAMETERS,
            "inputs": array(_INFER_INPUT),
            "outputs": array(_WANTED_OUTPUT),
        },
        "inputs",
    ),
    "InferResponse": _object(
        {
            "id": _TEXT,
            "model_name": _TEXT,
            "model_version": _TEXT,
            "parameters": _map(_PARAMETER),
            "outputs": array(_INFER_OUTPUT),
        },
        "model_name",
        "model_version",
        "outputs",
    ),
    "GenerateRequest": _object(
        {"id": _TEXT, "parameters": _map({})},
        additionalProperties=True,
        description="A member named like an input is that input; others are parameters",
    ),
    "GenerateResponse": _object(
        {"id": _TEXT, "model_name": _TEXT, "model_version": _TEXT},
        additionalProperties=True,
        description="Outputs and response parameters by name; a single element without its list",
    ),
    "Duration": _object({"count": _NUMBER, "ns": _NUMBER}, "count", "ns"),
    "Statistics": _object({"model_stats": array(_VERSION_STATISTICS)}, "model_stats"),
    "SystemRegionRequest": _object(
        {"key": _TEXT, "offset": _NUMBER, "byte_size": _NUMBER}, "key", "byte_size"
    ),
    "SystemRegion": _object(
        {"name": _TEXT, "key": _TEXT, "offset": _NUMBER, "byte_size": _NUMBER},
        "name",
        "key",
        "offset",
        "byte_size",
    ),
    "CudaRegionRequest": _object(
        {
            "raw_handle": _object(
                {"b64": {**_TEXT, "description": "A cudaIpcMemHandle_t in base64"}}, "b64"
            ),
            "device_id": _NUMBER,
            "byte_size": _NUMBER,
        },
        "raw_handle",
        "device_id",
        "byte_size",
    ),
    "CudaRegion": _object(
        {"name": _TEXT, "device_id": _NUMBER, "byte_size": _NUMBER},
        "name",
        "device_id",
        "byte_size",
    ),
    "TrafficRule": {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "weights": {
                "description": "How much each version gets, by its number or label",
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
            },
            "sticky": {
                "description": "Equal values of this go to the same version",
                "type": "string",
                "pattern": "^(|id|parameter:.+)$",
            },
            "shadow": {
                "description": "Versions that get copies, whose answers are thrown away",
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["version"],
                    "additionalProperties": False,
                    "properties": {
                        "version": _TEXT,
                        "percent": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                        "max_pending": {"type": "integer", "minimum": 1, "maximum": 100_000},
                    },
                },
            },
        },
    },
    "Traffic": _object(
        {
            "rule": ref("TrafficRule"),
            "source": {"type": "string", "enum": ["configuration", "request", ""]},
            "versions": {"type": "object", "additionalProperties": {"type": "integer"}},
            "shadow": array(
                _object(
                    {
                        "version": _TEXT,
                        **{
                            name: {"type": "integer"}
                            for name in ("pending", "success", "fail", "dropped", "total_ns")
                        },
                    }
                )
            ),
        }
    ),
    "ScaleRequest": _object(
        {
            "group": {"description": "Needed where there are several", "type": ["string", "null"]},
            "count": {
                "description": "How many instances it is to have, on each of its GPUs",
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_INSTANCES,
            },
        },
        "count",
        additionalProperties=False,
    ),
    "Instances": _whole({"versions": array(ref("VersionInstances"))}),
    "VersionInstances": _whole(
        {
            "version": _TEXT,
            "groups": array(_whole({"name": _TEXT, "kind": _TEXT, "count": _NUMBER})),
            "instances": array(ref("Instance")),
        }
    ),
    "Instance": _whole(
        {
            "name": _TEXT,
            "gpu": _nullable(_NUMBER),
            "state": {"type": "string", "enum": [state.value for state in WorkerState]},
            "deaths": {"description": "How often its worker ended unasked", **_NUMBER},
            "leaving": {"description": "Finishes what it has and gets no more", **_FLAG},
        }
    ),
    "TraceSettings": _object(
        {
            "trace_level": {"type": ["array", "null"], "items": _TEXT},
            **{
                name: _nullable(_TEXT)
                for name in (
                    "trace_rate",
                    "trace_count",
                    "log_frequency",
                    "trace_file",
                    "trace_mode",
                )
            },
        },
        additionalProperties=True,
        description="null in a request clears a setting",
    ),
    "LogSettings": _object(
        {
            "log_file": _nullable(_TEXT),
            "log_info": _nullable(_FLAG),
            "log_warning": _nullable(_FLAG),
            "log_error": _nullable(_FLAG),
            "log_verbose_level": _nullable(_NUMBER),
            "log_format": _nullable(_TEXT),
        },
        description="null in a request leaves a setting as it is",
    ),
}
