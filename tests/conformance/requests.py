"""Write inference requests down in few words."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from .case import Document, Grpc, Http

#: Four FP32 numbers as they lie in memory.
F4 = struct.pack("<4f", 0.1, 1, 2, 3)
F6 = struct.pack("<6f", 0, 1, 2, 3, 4, 5)
CHOICE = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}


def path(model: str) -> str:
    """The inference path of a model, or of "model/version"."""
    name, _, version = model.partition("/")
    return f"/v2/models/{name}{f'/versions/{version}' if version else ''}/infer"


# --- HTTP -----------------------------------------------------------------------------------------


def tensor(**changes: Any) -> Document:
    """A good input of the model 'identity' but for the changes; ... leaves a member out."""
    entry = {"name": "IN", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4], **changes}
    return {key: value for key, value in entry.items() if value is not ...}


def document(inputs: Any = None, outputs: Any = ..., **more: Any) -> Document:
    """An inference request; by itself a good one for the model 'identity'."""
    entry = {**more, "inputs": [tensor()] if inputs is None else inputs, "outputs": outputs}
    return {key: value for key, value in entry.items() if value is not ...}


def post(name: str, model: str, body: Document | str | bytes, **more: Any) -> Http:
    """An inference request over HTTP."""
    if isinstance(body, dict):
        body = json.dumps(body)
    return Http(name, "POST", path(model), body.encode() if isinstance(body, str) else body, **more)


def ask(name: str, inputs: Any = None, outputs: Any = ..., **more: Any) -> Http:
    """An inference request to the model 'identity' in JSON."""
    return post(name, "identity", document(inputs, outputs, **more))


def binary(
    name: str,
    model: str,
    request: Document,
    *blobs: bytes,
    headers: Mapping[str, str | None] | None = None,
    normalise: Sequence[str] = (),
) -> Http:
    """An inference request with binary tensors behind its document."""
    head = json.dumps(request).encode()
    lines = {"Inference-Header-Content-Length": str(len(head)), **(headers or {})}
    return post(name, model, head + b"".join(blobs), headers=lines, normalise=normalise)


def behind(size: int = 16, **changes: Any) -> Document:
    """An input whose data follow the document."""
    return tensor(data=..., parameters={"binary_data_size": size}, **changes)


# --- gRPC -----------------------------------------------------------------------------------------


def parameters(values: Mapping[str, Any]) -> Document:
    """InferParameters by the Python types of the values; a dict is taken as it is."""
    return {
        key: value if isinstance(value, dict) else {CHOICE[type(value)]: value}
        for key, value in values.items()
    }


def wire_tensor(
    name: str = "IN",
    datatype: str = "FP32",
    shape: Sequence[int] = (4,),
    more: Mapping[str, Any] | None = None,
    **contents: Any,
) -> Document:
    """An input of a ModelInferRequest, with typed contents where there are any."""
    entry: Document = {"name": name, "datatype": datatype, "shape": list(shape)}
    if contents:
        entry["contents"] = contents
    if more:
        entry["parameters"] = parameters(more)
    return entry


def message(
    model: str = "identity",
    inputs: Sequence[Document] | None = None,
    raw: Sequence[bytes] = (F4,),
    outputs: Mapping[str, Mapping[str, Any]] | Sequence[Document] = (),
    given: Mapping[str, Any] | None = None,
    **fields: str,
) -> Document:
    """A ModelInferRequest; by itself a good one for the model 'identity'."""
    if isinstance(outputs, Mapping):
        outputs = [
            {"name": name, "parameters": parameters(values)} for name, values in outputs.items()
        ]
    return {
        "model_name": model,
        "inputs": [wire_tensor()] if inputs is None else list(inputs),
        "raw_input_contents": list(raw),
        "outputs": list(outputs),
        "parameters": parameters(given or {}),
        **fields,
    }


def call(name: str, *arguments: Any, normalise: Sequence[str] = (), **fields: Any) -> Grpc:
    """A ModelInfer call of `message(...)`."""
    return Grpc(name, "ModelInfer", message(*arguments, **fields), normalise)
