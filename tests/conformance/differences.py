"""Where this server answers otherwise than the recorded one, why, and what it answers instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Answer = dict[str, Any]


class Kind(Enum):
    """Whether a difference counts."""

    #: The recorded release is 2.51; this is what newer ones answer, and so counts as the same.
    NEWER = "newer"
    #: Decided; docs/compatibility.md says so too.
    DECIDED = "decided"


@dataclass(frozen=True)
class Difference:
    """One case whose answer is not the recorded one."""

    kind: Kind
    reason: str
    #: What replaces members of the recorded answer; ... removes one.
    instead: Mapping[str, Any] = field(default_factory=dict[str, Any])
    #: What is replaced in our texts: a regular expression for the answer as JSON, and a text.
    replaced: tuple[str, str] = ("$^", "")

    def applied(self, recorded: Answer) -> Answer:
        """The answer that is expected here."""
        merged = {**recorded, **self.instead}
        text = json.dumps({key: value for key, value in merged.items() if value is not ...})
        answer: Answer = json.loads(re.sub(*self.replaced, text))
        return answer


_JSON = {"content-type": "application/json"}
_TEXT = {"content-type": "text/plain"}


def _error(status: str, message: str, headers: Mapping[str, str] = _JSON) -> Answer:
    """What replaces an HTTP answer."""
    body = json.dumps({"error": message}, separators=(",", ":"), ensure_ascii=False)
    gone = dict.fromkeys(("answered", "connection", "tensors"), ...)
    return {**gone, "status": status, "headers": dict(headers), "body": body}


def _output(datatype: str, count: int, data: str) -> Answer:
    """What replaces a refusal by the model 'types': its output in JSON."""
    body = (
        f'{{"model_name":"types","model_version":"1","outputs":[{{"name":"OUT_{datatype}",'
        f'"datatype":"{datatype}","shape":[{count}],"data":[{data}]}}]}}'
    )
    return {"status": "200 OK", "headers": _JSON, "body": body}


def _refusal(code: str, details: str) -> Answer:
    """What replaces a gRPC answer."""
    return {"code": code, "details": details, "message": ...}


def _models(names: str, **versions: Iterable[str]) -> str:
    """The list of models that are all ready; those without other versions have the first."""
    models = [
        {
            "name": name,
            "versions": [
                {"version": version, "state": "READY", "reason": ""}
                for version in versions.get(name, "1")
            ],
        }
        for name in names.split()
    ]
    return json.dumps({"models": models}, separators=(",", ":"))


def _newer(reason: str, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Difference]:
    return {name: Difference(Kind.NEWER, reason, instead) for name, instead in entries.items()}


def _decided(reason: str, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Difference]:
    return {name: Difference(Kind.DECIDED, reason, instead) for name, instead in entries.items()}


# --- what newer releases answer -------------------------------------------------------------------


def _unknown(what: str) -> str:
    return f"Request for unknown model: {what}"


_READINESS = {
    **{
        f"health: GET /v2/models/{path}/ready": _unknown(f"{what} is not found")
        for path, what in {
            "nope": "'nope'",
            "nope/versions/1": "'nope'",
            "identity/versions/9": "'identity' version 9",
            "identity/versions/0": "'identity' version 0",
            "versions/versions/2": "'versions' version 2",
            "ident%69ty": "'ident%69ty'",
            "IDENTITY": "'IDENTITY'",
        }.items()
    },
    "control: never loaded: ready": _unknown("'good' is not found"),
    "control: unloaded: ready": _unknown("'good' has no available versions"),
    "control while loading: loading: ready": _unknown("'patient' has no available versions"),
    "control failures: failed: ready": _unknown("'broken_init' has no available versions"),
}

_MODEL_READY = {
    "health: ModelReady name 'nope'": _unknown("'nope' is not found"),
    "health: ModelReady name 'identity', version '9'": _unknown(
        "'identity' version 9 is not found"
    ),
    "health: ModelReady no name": _unknown("'' is not found"),
    "control: never loaded: ModelReady": _unknown("'good' is not found"),
    "control: unloaded: ModelReady": _unknown("'good' has no available versions"),
    "control while loading: loading: ModelReady": _unknown("'patient' has no available versions"),
    "control failures: failed: ModelReady": _unknown("'broken_init' has no available versions"),
}

_AMBIGUOUS = (
    "There are 2 identifiers of model '{}' in global map, model namespace must be provided to "
    "resolve ambiguity."
)
_GONE = "Identifier of model '{}' is not found in global map"
#: With namespacing: what becomes of a name, and the code with which it is told.
_NAMES = {
    "unknown": ("INVALID_ARGUMENT", _unknown("'nobody' is not found")),
    "idle": ("INVALID_ARGUMENT", _unknown("'idle' is not found")),
    "ambiguous": ("INVALID_ARGUMENT", _AMBIGUOUS.format("both")),
    "unloaded": ("NOT_FOUND", _GONE.format("both")),
    "half loaded": ("INVALID_ARGUMENT", _AMBIGUOUS.format("half")),
    "given and loaded": ("INVALID_ARGUMENT", _AMBIGUOUS.format("other")),
    "given and unloaded": ("NOT_FOUND", _GONE.format("other")),
}
_STATUS = {"INVALID_ARGUMENT": "400 Bad Request", "NOT_FOUND": "404 Not Found"}
_NINTH = ("NOT_FOUND", _unknown("'<repository>/first::single' version 9 is not found"))
_GIVEN_NINTH = ("NOT_FOUND", _unknown("'other' version 9 is not found"))


def _of_names(*questions: str) -> dict[str, tuple[str, str]]:
    return {
        f"namespaces: {when}: {question}": told
        for when, told in _NAMES.items()
        for question in questions
    }


_UNRULY = {
    "model_name": "unruly",
    "model_version": "1",
    "outputs": [{"name": "OUT", "datatype": "FP32", "shape": ["4"]}],
    "raw_output_contents": ["AAAAAAAAAAAAAAAAAAAAAA=="],
}
_PARAMETERS = {
    "text": {"string_param": "a"},
    "number": {"int64_param": "7"},
    "yes": {"bool_param": True},
    "minus": {"int64_param": "-3"},
}
_FINAL = {**_PARAMETERS, "triton_final_response": {"bool_param": True}}

_TOO_LARGE = "causes total element count to exceed maximum size of 9223372036854775807"
_NO_HEADER = "Unable to parse Inference-Header-Content-Length"
_BAD_READY = _error("400 Bad Request", "Invalid value for 'ready': expected a boolean")
_BAD_OVERRIDE = _error("400 Bad Request", "Invalid config override: <reason>")
_GOOD_BODY = (
    '{"model_name":"identity","model_version":"1","outputs":[{"name":"OUT","datatype":"FP32",'
    '"shape":[4],"data":[1.0,2.0,3.0,4.0]}]}'
)


def _bad_name(name: str) -> str:
    return (
        f"invalid model name '{name}': a model name is not blank and holds neither a slash nor '..'"
    )


_NO_GPUS = "failed to register CUDA shared memory region: 'r', GPUs not supported"

_NEWER = {
    **_newer(
        "readiness of what does not exist is an error of its own",
        {
            **{name: _error("404 Not Found", text, _TEXT) for name, text in _READINESS.items()},
            **{name: _refusal("NOT_FOUND", text) for name, text in _MODEL_READY.items()},
        },
    ),
    **_newer(
        "names of segments that are the server's own are refused as such",
        {
            "shared memory: system reserved key": _error(
                "400 Bad Request",
                "cannot register shared memory region 'r' with key "
                "'triton_python_backend_shm_region_x' as the key contains the reserved prefix "
                "'triton_python_backend_shm_region_'",
            ),
        },
    ),
    **_newer(
        "what a server without GPUs cannot register says why",
        {
            "shared memory: cuda without a GPU": _error("400 Bad Request", _NO_GPUS),
            "shared memory: CudaSharedMemoryRegister": _refusal("INVALID_ARGUMENT", _NO_GPUS),
        },
    ),
    **_newer(
        "an output may be asked for once",
        {
            "json: output twice": _error(
                "400 Bad Request",
                "[request id: <id_unknown>] output 'OUT' already exists in request",
            ),
            "grpc requests: output twice": _refusal(
                "INVALID_ARGUMENT",
                "[request id: <id_unknown>] output 'OUT' already exists in request",
            ),
        },
    ),
    **_newer(
        "the size of a tensor is checked for overflow",
        {
            "json: shape huge": _error(
                "400 Bad Request",
                f"invalid shape for input 'IN': shape [4611686018427387904,4] {_TOO_LARGE}",
            ),
            "json: shape beyond signed 64 bits": _error(
                "400 Bad Request",
                "invalid shape for input 'IN': shape [-9223372036854775808] contains one or more "
                "invalid dimensions",
            ),
        },
    ),
    **_newer(
        "too few values have a message of their own",
        {
            f"json data: data {name}": _error(
                "500 Internal Server Error",
                "Failed to parse 'data' field: shape does not match true shape",
            )
            for name in ("too short", "empty", "empty lists")
        },
    ),
    **_newer(
        "a header length that is no number is refused",
        {
            f"binary: header length '{value}'": _error(
                "400 Bad Request", f"{_NO_HEADER}{text}, got: {value}", _TEXT
            )
            for value, text in {
                "abc": "",
                "": "",
                "99999999999999": ", value is out of range [ -2147483648, 2147483647 ]",
            }.items()
        },
    ),
    **_newer(
        "an empty Content-Encoding is none",
        {
            "binary encodings: encoding empty": {
                "status": "200 OK",
                "headers": _JSON,
                "body": _GOOD_BODY,
            }
        },
    ),
    **_newer(
        "parameters of the repository extension are checked",
        {
            "repository closed: index ready a text": _BAD_READY,
            "repository closed: index ready null": _BAD_READY,
            "control: unload no JSON": _error(
                "500 Internal Server Error",
                "failed to parse the request JSON buffer: Missing a name for object member. at 1",
            ),
            "control parameters: load with a config that is no JSON": _BAD_OVERRIDE,
            "control parameters: load with a config that has an unknown field": _BAD_OVERRIDE,
            "control: RepositoryModelLoad without a name": _refusal(
                "INVALID_ARGUMENT", _bad_name("")
            ),
            "control: RepositoryModelLoad of a path": _refusal(
                "INVALID_ARGUMENT", _bad_name("a/b")
            ),
            "control names: RepositoryModelLoad of two dots": _refusal(
                "INVALID_ARGUMENT", _bad_name("..")
            ),
        },
    ),
    **_newer(
        "a model that failed to load and was unloaded does not count",
        {"control failures: failed and unloaded: server ready": {"status": "200 OK"}},
    ),
    "control failures: index failed and unloaded": Difference(
        Kind.NEWER,
        "a model that failed to load and was unloaded is unloaded",
        replaced=("<reason>", "unloaded"),
    ),
    **_newer(
        "responses have parameters",
        {
            "python: HTTP parameters": {
                "status": "200 OK",
                "headers": _JSON,
                "body": '{"id":"r7","model_name":"unruly","model_version":"1","parameters":'
                '{"text":"a","number":7,"yes":true,"minus":-3},"outputs":[{"name":"OUT",'
                '"datatype":"FP32","shape":[4],"data":[0.0,0.0,0.0,0.0]}]}',
            },
            "python: gRPC parameters": {
                "code": "OK",
                "details": ...,
                "message": {**_UNRULY, "id": "r7", "parameters": _PARAMETERS},
            },
            "decoupled: an ordinary model with parameters": {
                "messages": [{"infer_response": {**_UNRULY, "id": "a", "parameters": _FINAL}}],
            },
        },
    ),
}

_NAMED = "errors and final responses of streams name model and version"

#: Refusals on a stream, with the model name and, where the request has one, the version.
_NEWER |= {
    f"grpc streams: {case}": Difference(
        Kind.NEWER, _NAMED, replaced=(r'\{"id": "a"\}', '{"id": "a", ' + named + "}")
    )
    for case, named in {
        "wrong shape": '"model_name": "identity"',
        "unknown model": '"model_name": "nope"',
        "text version": '"model_name": "identity", "model_version": "x"',
        "unknown input": '"model_name": "identity"',
        "without data": '"model_name": "identity"',
        "triton_ parameter": '"model_name": "identity"',
        "empty final response of a number": '"model_name": "identity"',
    }.items()
}
_NEWER["grpc streams: goes on after errors"] = Difference(
    Kind.NEWER,
    _NAMED,
    replaced=(
        r'\{("id": "s2")\}(.*)\{("id": "s3")\}',
        r'{\1, "model_name": "identity"}\2{\3, "model_name": "nope"}',
    ),
)
_NEWER |= {
    case: Difference(
        Kind.NEWER,
        _NAMED,
        replaced=(
            r'("model_name": "\w+"), "parameters"',
            r'\1, "model_version": "1", "parameters"',
        ),
    )
    for case in (
        "decoupled: none with an empty end",
        "decoupled: three with an empty end",
        "decoupled: fail in the middle",
        "decoupled: fail in the middle with an empty end",
        "decoupled: an ordinary model with an error",
        "decoupled senders: end with an error",
        "decoupled senders: send an error first",
        "coroutines: three, decoupled",
    )
}

_NEWER["statistics of responses: a failure"] = _NEWER["decoupled: fail in the middle"]

_TRACES = _newer(
    "trace settings of an unknown model are looked up as any model is",
    {
        "trace: GET /v2/models/nope/trace/setting": _error(
            "404 Not Found", _unknown("'nope' is not found")
        ),
        "trace: gRPC of an unknown model": _refusal("NOT_FOUND", _unknown("'nope' is not found")),
    },
)

_NAMESPACES = {
    **_newer(
        "the readiness of an unknown model is its look-up error",
        {
            name: _error(_STATUS[code], message, _TEXT)
            for name, (code, message) in {
                **_of_names("ready", "ready of its version", "ready of no version"),
                "namespaces: single: ready of no version": _NINTH,
                "namespaces: given: ready of no version": _GIVEN_NINTH,
            }.items()
        },
    ),
    **_newer(
        "the readiness of an unknown model is its look-up error",
        {name: _refusal(*told) for name, told in _of_names("ModelReady").items()},
    ),
    **_newer(
        "trace settings of an unknown model are looked up as any model is",
        {
            name: _error(_STATUS[code], message)
            for name, (code, message) in _of_names("trace settings").items()
        },
    ),
}

# --- what we do otherwise -------------------------------------------------------------------------

#: The lines of a traceback, in JSON and in JSON within JSON.
_TRACEBACK = r'(\\+n){2}At:(\\+n  [^\\"]*)+(\\+n)?'

#: How the responses of three requests ended, by their index: infer, output, success, fail, empty.
_RESPONSES = {
    "0": (3, 2, 2, 0, 1),
    "1": (2, 2, 1, 1, 0),
    "2": (2, 2, 2, 0, 0),
    "3": (2, 0, 0, 0, 2),
}
_COUNTS = ("compute_infer", "compute_output", "success", "fail", "empty_response")
_RESPONSES_HTTP = {
    index: {
        name: {"count": count, "ns": "some" if count else 0}
        for name, count in zip((*_COUNTS, "cancel"), (*counts, 0), strict=True)
    }
    for index, counts in _RESPONSES.items()
}
_RESPONSES_GRPC = {
    index: {
        name: {"count": str(count), "ns": "some"} if count else {}
        for name, count in zip((*_COUNTS, "cancel"), (*counts, 0), strict=True)
    }
    for index, counts in _RESPONSES.items()
}

_DECIDED = {
    **_decided(
        "FP16 and BF16 are read and written as JSON",
        {
            "datatypes: FP16 JSON numbers": _output("FP16", 3, "0.0999755859375,1.0,-2.5"),
            "datatypes: FP16 JSON thirds": _output("FP16", 3, "0.333251953125,0.0,Infinity"),
            "datatypes: FP16 JSON round numbers": _output(
                "FP16", 8, "Infinity," * 7 + "0.0010004043579101562"
            ),
            "datatypes: FP16 JSON small numbers": _output(
                "FP16",
                6,
                "0.00010001659393310547,1.0013580322265625e-05,1.0132789611816406e-06,"
                "1.1920928955078125e-07,1.7881393432617188e-07,0.0",
            ),
            "datatypes: FP16 JSON texts": _error(
                "400 Bad Request",
                "Unable to parse 'data': attempt to access JSON non-number as double",
            ),
            "datatypes: FP16 binary to JSON numbers": _output(
                "FP16", 3, "0.0999755859375,-Infinity,2.0"
            ),
            "datatypes: FP16 binary to JSON none": _output("FP16", 0, ""),
            "datatypes: BF16 JSON numbers": _output("BF16", 2, "1.0,2.0"),
            "datatypes: BF16 binary to JSON numbers": _output("BF16", 2, "1.0,2.0"),
        },
    ),
    **_decided(
        "what is no HTTP/1.1 is refused with a reason",
        {
            "routes: OPTIONS *": _error("404 Not Found", "Not Found", _TEXT),
            "routes: FOO /v2": _error("400 Bad Request", "Invalid method encountered", _TEXT),
            "routes: not HTTP": _error("400 Bad Request", "Invalid method encountered", _TEXT),
            "routes: no host": _error(
                "400 Bad Request", "Missing 'Host' header in request.", _TEXT
            ),
        },
    ),
    **_decided(
        "JSON is UTF-8 to its end, and of two equal members the last counts",
        {
            "json bodies: body zero byte behind": _error(
                "500 Internal Server Error",
                "failed to parse the request JSON buffer: The document root must not be followed "
                "by other values. at 84",
            ),
            "json bodies: body invalid UTF-8": _error(
                "500 Internal Server Error", "Unable to parse 'id': the string is not valid UTF-8"
            ),
            "json bodies: body same member twice": {"body": '{"id":"b",' + _GOOD_BODY[1:]},
            "datatypes: BYTES binary to JSON not UTF-8": {
                "body": '{"model_name":"types","model_version":"1","outputs":[{"name":"OUT_BYTES",'
                '"datatype":"BYTES","shape":[1],"data":["\ufffd\ufffd"]}]}'
            },
        },
    ),
    **_decided(
        "a batch of none is answered as any other",
        {
            "json shapes: pair batch of none": {
                "status": "200 OK",
                "body": '{"model_name":"pair","model_version":"1","outputs":[{"name":"OA",'
                '"datatype":"FP32","shape":[0,2],"data":[]},{"name":"OB","datatype":"INT32",'
                '"shape":[0,1],"data":[]}]}',
            },
        },
    ),
    **_decided(
        "required inputs are asked for by name, not counted",
        {
            "json shapes: optional alone": _error(
                "400 Bad Request",
                "[request id: <id_unknown>] expected number of inputs between 1 and 2 but got 1 "
                "inputs for model 'optional'. Got input(s) ['B'], but missing required input(s) "
                "['A']. Please provide all required input(s).",
            ),
        },
    ),
    **_decided(
        "compressed data that are broken are called so",
        {
            "binary encodings: encoding broken": _error(
                "400 Bad Request",
                "the request body cannot be decompressed: Error -3 while decompressing data: "
                "incorrect header check",
                _TEXT,
            ),
            "binary encodings: encoding cut": _error(
                "400 Bad Request", "the compressed data of the request body are cut off", _TEXT
            ),
        },
    ),
    **{
        name: Difference(Kind.DECIDED, "clients see no traceback", replaced=(_TRACEBACK, ""))
        for name in (
            "python: HTTP raise",
            "python: HTTP raise a model exception",
            "python: gRPC raise",
            "generate: generate raising",
            "generate: generate_stream raising",
            "coroutines: raise",
        )
    },
    **{
        f"statistics of responses: {protocol} of responses": Difference(
            Kind.DECIDED,
            "the responses of decoupled Python models are counted, which Triton does for others",
            replaced=replaced,
        )
        for protocol, replaced in {
            "HTTP": (
                r'(response_stats\\":)\{\}',
                r"\1"
                + json.dumps(json.dumps(_RESPONSES_HTTP, separators=(",", ":")))[1:-1].replace(
                    "\\", "\\\\"
                ),
            ),
            "gRPC": (
                '"name": "counted_responses"',
                f'"response_stats": {json.dumps(_RESPONSES_GRPC)}, "name": "counted_responses"',
            ),
        }.items()
    },
    **{
        name: Difference(
            Kind.DECIDED,
            "clients see no traceback, and which version failed",
            replaced=(_TRACEBACK + r'(".*"model_name": "\w+")', r'\4, "model_version": "1"'),
        )
        for name in ("decoupled: raise", "decoupled: an ordinary model that fails")
    },
    **_decided(
        "every request is answered",
        {
            "python: HTTP return None": _error(
                "500 Internal Server Error",
                "Failed to process the request(s) for model 'unruly_0', message: the model let go "
                "of the request without sending a response.",
                _TEXT,
            ),
        },
    ),
    **_decided(
        "a worker that died is started again, and may be tried again",
        {
            "python that dies: HTTP exit": _error(
                "503 Service Unavailable",
                "[request id: r7] the request to model 'mortal' was lost: the worker of model "
                "instance 'mortal_0' exited with status 3",
                _TEXT,
            ),
        },
    ),
    "control parameters: after a plain load: metadata": Difference(
        Kind.DECIDED,
        "a plain load after one with a configuration loads what lies on the disk",
        replaced=(r"\[-1,4\]", "[4]"),
    ),
    "python-based backends: load of_native": Difference(
        Kind.DECIDED,
        "a worker loads no C++ backends",
        replaced=("Not found: <reason>", "Unsupported: <reason>"),
    ),
    **_decided(
        "models can be listed",
        {
            "routes: GET /v2/models": {
                "status": "200 OK",
                "headers": _JSON,
                "body": _models(
                    "completed described dynamic grid identity labelled optional pair seen text "
                    "texts types unlabelled versions",
                    versions=("1", "3"),
                ),
            }
        },
    ),
    **_decided(
        "a parameter of the wrong type is refused",
        {
            "control: unload bad dependents": _error(
                "500 Internal Server Error",
                "Unable to parse 'unload_dependents': attempt to access JSON non-boolean as "
                "boolean",
            ),
        },
    ),
    **_decided(
        "the outputs that are wanted belong to the key",
        {
            "response cache limits: the other output": {
                "body": '{"model_name":"outputs","model_version":"1","outputs":[{"name":"OB",'
                '"datatype":"INT32","shape":[1,1],"data":[3]}]}'
            },
        },
    ),
}

_NEWER |= _newer(
    "data may be a single value without brackets",
    {
        **{
            f"json data: data {what}": _error(
                "500 Internal Server Error",
                "Unable to parse 'data': attempt to access JSON non-number as double",
            )
            for what in ("an object", "null", "a text")
        },
        "json data: data a number": _error(
            "500 Internal Server Error",
            "Failed to parse 'data' field: shape does not match true shape",
        ),
    },
)

_SEQUENCES = _newer(
    "an id of another kind than the model's CORRID is refused; 2.51 tells the model what lay there",
    {
        "sequences: HTTP text id": _error(
            "400 Bad Request",
            "inference request for sequence a to model 'sequence' has a correlation ID that is a "
            "string, but control input 'CORRID' is UINT64",
        ),
    },
)

_NEWER |= {
    "ensembles: none": Difference(
        Kind.NEWER,
        _NAMED,
        replaced=(
            r'("model_name": "\w+"), "parameters"',
            r'\1, "model_version": "1", "parameters"',
        ),
    ),
    "ensembles: a decoupled step that fails in the middle": Difference(
        Kind.NEWER,
        _NAMED,
        replaced=(
            r'("model_name": "\w+"), "parameters"',
            r'\1, "model_version": "1", "parameters"',
        ),
    ),
    **{
        f"ensembles: /config of {model}": Difference(
            Kind.NEWER,
            "newer releases bound the requests in flight of a step",
            replaced=(
                r'(ensemble_scheduling\\":\{)',
                r'\1\\"max_inflight_requests\\":0,',
            ),
        )
        for model in ("many", "first")
    },
}
_DECIDED["ensemble loads: load wrong_origins"] = Difference(
    Kind.DECIDED,
    "the step's model is named, not the ensemble",
    replaced=("step of model 'wrong_origins'", "step of model 'numbers'"),
)

_CALLS = {
    "calls: a model that does: error UNAVAILABLE": Difference(
        Kind.DECIDED,
        "a model that calls another reads the code of its error too",
        replaced=(r'(code[\\"]+: )1', r"\g<1>4"),
    ),
    "calls of decoupled models: an error in the middle": Difference(
        Kind.DECIDED,
        "no response is lost, errors among them",
        replaced=(
            r'(\{(\\+")outputs\\+": \{\\+"OUT\\+": \[3\])',
            r"{\g<2>code\g<2>: 4, \g<2>error\g<2>: \g<2>half way\g<2>}, \1",
        ),
    ),
}

DIFFERENCES: dict[str, Difference] = {
    **_NEWER,
    **_TRACES,
    **_NAMESPACES,
    **_SEQUENCES,
    **_DECIDED,
    **_CALLS,
}
