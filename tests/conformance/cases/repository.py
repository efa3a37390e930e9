"""The model repository extension: index, load, unload, in the modes none and explicit."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from ..case import Area, Case, Grpc, Http, Meanwhile, Settled, Step
from ..requests import message, path
from ..setups import CONTROL, FILES, PROTOCOL

_INFER = json.dumps(
    {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}]}
).encode()


def _index(name: str, body: str = "", where: str = "", normalise: Sequence[str] = ()) -> Http:
    address = f"/v2/repository{where}/index"
    return Http(f"index {name}", "POST", address, body.encode(), normalise=normalise)


def _do(
    verb: str,
    model: str,
    body: Any = "",
    name: str = "",
    where: str = "",
    normalise: Sequence[str] = (),
) -> Http:
    text = body if isinstance(body, str) else json.dumps(body)
    address = f"/v2/repository{where}/models/{model}/{verb}"
    return Http(name or f"{verb} {model}", "POST", address, text.encode(), normalise=normalise)


def _call(rpc: str, label: str, **fields: Any) -> Grpc:
    return Grpc(f"{rpc} {label}", rpc, fields)


_CLOSED: list[Case] = [
    _index("empty"),
    _index("ready", '{"ready":true}'),
    _index("not only ready", '{"ready":false}'),
    _index("no parameters", "{}"),
    _index("ready a text", '{"ready":"x"}'),
    _index("ready null", '{"ready":null}'),
    _index("no JSON", "{"),
    _index("a list", "[]"),
    _index("with a repository", '{"ready":true}', "/foo"),
    _do("load", "identity"),
    _do("unload", "identity"),
    _do("load", "nope"),
    _do("load", "identity", "{", "load no JSON"),
    _do("load", "identity", "", "load with a repository", "/foo"),
    _do("unload", "identity", "", "unload with a repository", "/foo"),
    _call("RepositoryIndex", "all"),
    _call("RepositoryIndex", "ready", ready=True),
    _call("RepositoryIndex", "with a repository", repository_name="x"),
    _call("RepositoryModelLoad", "identity", model_name="identity"),
    _call("RepositoryModelLoad", "with a repository", repository_name="x", model_name="identity"),
    _call("RepositoryModelUnload", "identity", model_name="identity"),
    _call("RepositoryModelUnload", "with a repository", repository_name="x", model_name="identity"),
]


def _questions(when: str, model: str) -> list[Step]:
    """What clients ask about a model, whatever its state."""
    base = f"/v2/models/{model}"
    return [
        Http(f"{when}: metadata", "GET", base),
        Http(f"{when}: metadata of its version", "GET", f"{base}/versions/1"),
        Http(f"{when}: ready", "GET", f"{base}/ready"),
        Http(f"{when}: config", "GET", f"{base}/config"),
        Http(f"{when}: statistics", "GET", f"{base}/stats", normalise=("durations",)),
        Http(f"{when}: inference", "POST", path(model), _INFER),
        Http(f"{when}: inference of its version", "POST", path(f"{model}/1"), _INFER),
        Grpc(f"{when}: ModelInfer", "ModelInfer", message(model)),
        Grpc(f"{when}: ModelMetadata", "ModelMetadata", {"name": model}),
        Grpc(f"{when}: ModelReady", "ModelReady", {"name": model}),
        Grpc(f"{when}: ModelStatistics", "ModelStatistics", {"name": model}),
        Http(f"{when}: server ready", "GET", "/v2/health/ready"),
        _index(when, "", "", ["models_with_a_state"]),
    ]


_LIFE: list[Step] = [
    _index("at the start"),
    _index("of what is ready at the start", '{"ready":true}'),
    *_questions("never loaded", "good"),
    _do("load", "good"),
    Http("loaded: metadata", "GET", "/v2/models/good"),
    Http("loaded: inference", "POST", path("good"), _INFER),
    _do("load", "good", "", "load again"),
    _do("unload", "good"),
    Settled("good", "UNAVAILABLE"),
    *_questions("unloaded", "good"),
    _do("unload", "good", "", "unload again"),
    _do("unload", "nope"),
    _do("unload", "broken_init", "", "unload what was never loaded"),
    _do("load", "nope"),
    _do("load", "good", "", "load once more"),
    Http("loaded again: inference", "POST", path("good"), _INFER),
    _do("unload", "good", '{"parameters":{"unload_dependents":true}}', "unload with dependents"),
    Settled("good", "UNAVAILABLE"),
    _do("unload", "good", "{", "unload no JSON"),
    _do("unload", "good", '{"parameters":{"unload_dependents":"x"}}', "unload bad dependents"),
    _do("unload", "good", '{"parameters":{"foo":1}}', "unload with an unknown parameter"),
    _call("RepositoryModelLoad", "good", model_name="good"),
    _call("ModelReady", "after RepositoryModelLoad", name="good"),
    _call("RepositoryModelUnload", "good", model_name="good"),
    Settled("good", "UNAVAILABLE"),
    _call("RepositoryModelUnload", "nope", model_name="nope"),
    _call("RepositoryModelUnload", "with a repository", model_name="good", repository_name="x"),
    _call(
        "RepositoryModelUnload",
        "with a parameter",
        model_name="good",
        parameters={"foo": {"string_param": "x"}},
    ),
    _call("RepositoryModelLoad", "nope", model_name="nope"),
    _call("RepositoryModelLoad", "without a name"),
    _call("RepositoryModelLoad", "of a path", model_name="a/b"),
    _call("RepositoryModelLoad", "with a repository", model_name="good", repository_name="x"),
    _call(
        "RepositoryModelLoad",
        "with an unknown parameter",
        model_name="good",
        parameters={"foo": {"string_param": "x"}},
    ),
    _call(
        "RepositoryModelLoad",
        "with a config that is no text",
        model_name="good",
        parameters={"config": {"int64_param": 3}},
    ),
]

_TENSOR = {"data_type": "TYPE_FP32", "dims": [4]}
_OVERRIDE = {
    "backend": "python",
    "max_batch_size": 3,
    "input": [{"name": "IN", **_TENSOR}],
    "output": [{"name": "OUT", **_TENSOR}],
}


def _with(name: str, parameters: Any) -> Http:
    body = {"parameters": parameters}
    return _do("load", "good", body, f"load with {name}", normalise=["without_reason"])


_PARAMETERS: list[Step] = [
    _do("load", "good", "{", "load no JSON"),
    _do("load", "good", "[]", "load a list"),
    _do("load", "good", "5", "load a number"),
    _do("load", "good", "{}", "load an empty object"),
    _with("parameters that are a number", 5),
    _with("no parameters", {}),
    _with("a boolean", {"unload_dependents": True}),
    _with("an unknown parameter", {"foo": "x"}),
    _with("a config that is a number", {"config": 5}),
    _with("a config that is no JSON", {"config": "{"}),
    _with("a config that has an unknown field", {"config": '{"no_such_field":1}'}),
    _with("a config that is wrong", {"config": json.dumps({**_OVERRIDE, "max_batch_size": -3})}),
    Http("after wrong configs: inference", "POST", path("good"), _INFER),
    _with("a config", {"config": json.dumps(_OVERRIDE)}),
    Http("after a config: metadata", "GET", "/v2/models/good"),
    _do("load", "good", "", "load after a config"),
    Http("after a plain load: metadata", "GET", "/v2/models/good"),
    _do("unload", "good", "", "unload at the end"),
    Settled("good", "UNAVAILABLE"),
]


_FILES: list[Step] = [
    _with("a file alone", {"file:1/model.py": "eA=="}),
    _call(
        "RepositoryModelLoad",
        "with a file that is no bytes",
        model_name="good",
        parameters={"file:1/model.py": {"string_param": "x"}},
    ),
    _with("a file that is no base64", {"config": json.dumps(_OVERRIDE), "file:1/model.py": "???"}),
    _with("a file outside", {"config": json.dumps(_OVERRIDE), "file:../model.py": "eA=="}),
    _with("a broken file", {"config": json.dumps(_OVERRIDE), "file:1/model.py": "eA=="}),
    _with(
        "a file",
        {
            "config": json.dumps(_OVERRIDE),
            "file:1/model.py": base64.b64encode(
                b"class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
            ).decode(),
        },
    ),
    Http("after a file: metadata", "GET", "/v2/models/good"),
    _do("unload", "good", "", "unload after a file"),
    Settled("good", "UNAVAILABLE"),
]


def _named(name: str, where: str) -> Http:
    return Http(f"{name}", "POST", f"/v2/repository{where}")


#: The real server remembers the name of two dots, and is not ready ever after: to be asked last.
_NAMES: list[Step] = [
    _call("RepositoryModelLoad", "of two dots", model_name=".."),
    _named("load of an encoded slash", "/models/a%2Fb/load"),
    _named("load of encoded dots", "/models/%2E%2E/load"),
    _named("load of a blank", "/models/%20/load"),
    _named("load of nothing", "/models//load"),
    _named("load with a repository", "/foo/models/good/load"),
    _named("unload with a repository", "/foo/models/good/unload"),
]

_SLOW: list[Step] = [
    Meanwhile(
        _do("load", "patient"),
        Settled("patient", "LOADING"),
        [step for step in _questions("loading", "patient") if isinstance(step, Http | Grpc)],
        "patient/go",
    ),
    Http("loaded: inference", "POST", path("patient"), _INFER),
    Http("loaded: server ready", "GET", "/v2/health/ready"),
    _do("unload", "patient"),
    Settled("patient", "UNAVAILABLE"),
]


def _of_versions(models: Sequence[str]) -> list[Step]:
    steps: list[Step] = []
    for model in models:
        steps += [
            _do("load", model),
            Http(f"metadata of {model}", "GET", f"/v2/models/{model}"),
            Http(
                f"statistics of {model}",
                "GET",
                f"/v2/models/{model}/stats",
                normalise=("durations",),
            ),
            Http(f"config of {model}", "GET", f"/v2/models/{model}/config", b"", {}, _ANY_ORDER),
            _index(f"with {model}", "", "", _LOADED),
            _do("unload", model),
            Settled(model, "UNAVAILABLE"),
            _index(f"without {model}", "", "", _LOADED),
        ]
    return steps


_VERSIONED = ("versions", "chosen", "newest", "shorthand", "unconfigured")
_LOADED = ("models_with_a_state",)
_ANY_ORDER = ("keys_in_any_order",)

_BROKEN_CODE = ("syntax", "import", "init", "class", "completion", "conflict")
_BROKEN_CONFIGURATIONS = (
    "garbage", "field", "enum", "name", "backend", "platform", "batch_size", "dim_zero",
    "dim_negative", "no_dims", "no_datatype", "no_name", "preferred", "preferred_zero", "gpu",
    "cpu_with_gpus", "policy", "latest_zero", "labels", "reshape", "two_schedulers",
    "version", "no_version",
)  # fmt: skip


def _broken(names: Sequence[str]) -> list[Step]:
    """Load and unload; what is wrong is said by each server in words of its own."""
    steps: list[Step] = []
    for model in (f"broken_{name}" for name in names):
        steps.append(_do("load", model, normalise=["without_reason"]))
        steps.append(_do("unload", model))
    return steps


_FAILED: list[Step] = [
    _do("load", "broken_init", "", "load it", normalise=["without_reason"]),
    *_questions("failed", "broken_init"),
    Grpc(
        "RepositoryModelLoad of a broken one",
        "RepositoryModelLoad",
        {"model_name": "broken_init"},
        ["without_reason"],
    ),
    _do("unload", "broken_init", "", "unload it"),
    Http("failed and unloaded: server ready", "GET", "/v2/health/ready"),
    _index("failed and unloaded", "", "", ["models_with_a_state"]),
]

AREAS = [
    Area("repository closed", PROTOCOL, _CLOSED),
    Area("control", CONTROL, _LIFE),
    Area("control parameters", CONTROL, _PARAMETERS),
    Area("control while loading", CONTROL, _SLOW),
    Area("control versions", CONTROL, _of_versions(_VERSIONED)),
    Area("control failures", CONTROL, _FAILED),
    Area("control broken code", CONTROL, _broken(_BROKEN_CODE)),
    Area("control broken configurations", CONTROL, _broken(_BROKEN_CONFIGURATIONS)),
    Area("control names", CONTROL, _NAMES),
    Area("file overrides", FILES, _FILES),
    Area("warm-up", FILES, _broken(["warmup"])),
]
