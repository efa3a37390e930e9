"""Models of one name in two repositories, with --model-namespacing."""

from __future__ import annotations

import base64
import json

from ..case import Area, Grpc, Http, Settled, Step
from ..requests import message, path
from ..setups import NAMESPACES

_INFER = json.dumps(
    {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}]}
).encode()
_CONFIG = {
    "backend": "python",
    "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]}],
}
_CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "IN") for request in requests]
        outputs = [pb_utils.Tensor("OUT", tensor.as_numpy()) for tensor in inputs]
        return [pb_utils.InferenceResponse([output]) for output in outputs]
"""
_GIVEN = {
    "config": json.dumps(_CONFIG),
    "file:1/model.py": base64.b64encode(_CODE.encode()).decode(),
}


def _index(when: str) -> Http:
    return Http(f"index {when}", "POST", "/v2/repository/index")


def _do(verb: str, model: str, name: str = "", parameters: object = None) -> Http:
    body = json.dumps({"parameters": parameters}).encode() if parameters else b""
    address = f"/v2/repository/models/{model}/{verb}"
    return Http(name or f"{verb} {model}", "POST", address, body, normalise=["without_reason"])


def _questions(when: str, model: str) -> list[Step]:
    """What clients ask about a model, whatever became of its name."""
    base = f"/v2/models/{model}"
    return [
        Http(f"{when}: metadata", "GET", base),
        Http(f"{when}: metadata of its version", "GET", f"{base}/versions/1"),
        Http(f"{when}: metadata of no version", "GET", f"{base}/versions/9"),
        Http(f"{when}: ready", "GET", f"{base}/ready"),
        Http(f"{when}: ready of its version", "GET", f"{base}/versions/1/ready"),
        Http(f"{when}: ready of no version", "GET", f"{base}/versions/9/ready"),
        Http(f"{when}: config", "GET", f"{base}/config", normalise=["keys_in_any_order"]),
        Http(f"{when}: statistics", "GET", f"{base}/stats", normalise=["durations"]),
        Http(f"{when}: statistics of no version", "GET", f"{base}/versions/9/stats"),
        Http(f"{when}: inference", "POST", path(model), _INFER),
        Grpc(f"{when}: ModelInfer", "ModelInfer", message(model)),
        Grpc(f"{when}: ModelMetadata", "ModelMetadata", {"name": model}),
        Grpc(f"{when}: ModelReady", "ModelReady", {"name": model}),
        Grpc(f"{when}: ModelConfig", "ModelConfig", {"name": model, "version": "9"}),
        Grpc(f"{when}: ModelStatistics", "ModelStatistics", {"name": model, "version": "9"}),
        Http(f"{when}: trace settings", "GET", f"{base}/trace/setting"),
    ]


_LIFE: list[Step] = [
    _index("at the start"),
    *_questions("unknown", "nobody"),
    *_questions("idle", "idle"),
    *_questions("single", "single"),
    _do("load", "both"),
    _do("load", "nobody"),
    _index("with both"),
    *_questions("ambiguous", "both"),
    _do("unload", "both"),
    Settled("both", "UNAVAILABLE"),
    _index("without both"),
    *_questions("unloaded", "both"),
    _do("load", "half"),
    *_questions("half loaded", "half"),
    _do("unload", "half"),
    _do("load", "other", "load what the request brings", _GIVEN),
    *_questions("given", "other"),
    _do("load", "other", "load what lies in a repository"),
    *_questions("given and loaded", "other"),
    _do("unload", "other"),
    Settled("other", "UNAVAILABLE"),
    *_questions("given and unloaded", "other"),
]

AREAS = [Area("namespaces", NAMESPACES, _LIFE)]
