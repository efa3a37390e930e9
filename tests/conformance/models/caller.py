"""Asks other models what the script in IN says, and answers with what came of it, as JSON."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Try what is allowed here."""
        self._initialized = [_did(step) for step in _STAGES]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Do what each request says."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        steps = json.loads(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0])
        if steps == "initialize":
            return _answer(self._initialized)
        return _answer([_did(step) for step in steps])


#: What `initialize` tries.
_STAGES: list[dict[str, Any]] = [
    {"do": "exec", "model": "identity", "inputs": {"IN": ["float32", [1, 2, 3, 4]]}},
    {"do": "ready", "model": "identity"},
    {"do": "ready", "model": "nope"},
]


def _answer(found: Any) -> Any:
    text = json.dumps(found, sort_keys=True)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([text], np.object_))])


def _did(step: dict[str, Any]) -> Any:
    """What came of one step; an exception too."""
    try:
        return _DEEDS[step["do"]](step)
    except Exception as error:
        return {"raised": type(error).__name__, "text": str(error)}


def _request(step: dict[str, Any]) -> Any:
    inputs = [
        pb_utils.Tensor(name, _array(*given)) for name, given in step.get("inputs", {}).items()
    ]
    return pb_utils.InferenceRequest(
        model_name=step["model"],
        inputs=inputs,
        requested_output_names=step.get("outputs", ["OUT"]),
        **step.get("more", {}),
    )


def _array(kind: str, values: list[Any]) -> Any:
    if kind == "text":
        return np.array([value.encode() for value in values], np.object_)
    return np.array(values, kind)


def _told(response: Any) -> Any:
    if response.has_error():
        error = response.error()
        return {"error": error.message(), "code": int(error.code())}
    outputs = {tensor.name(): _values(tensor) for tensor in response.output_tensors()}
    return {"outputs": outputs}


def _values(tensor: Any) -> Any:
    values = tensor.as_numpy().tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _exec(step: dict[str, Any]) -> Any:
    return _told(_request(step).exec())


def _exec_decoupled(step: dict[str, Any]) -> Any:
    return [_told(response) for response in _request(step).exec(decoupled=True)]


def _replayed(step: dict[str, Any]) -> Any:
    responses = _request(step).exec(decoupled=True)
    first = [_told(response) for response in responses]
    return [first, [_told(response) for response in responses]]


def _async_exec(step: dict[str, Any]) -> Any:
    async def ask() -> Any:
        return _told(await _request(step).async_exec())

    return asyncio.run(ask())


def _async_exec_decoupled(step: dict[str, Any]) -> Any:
    async def ask() -> Any:
        return [_told(one) for one in await _request(step).async_exec(decoupled=True)]

    return asyncio.run(ask())


def _gather(step: dict[str, Any]) -> Any:
    async def ask() -> Any:
        calls = [_request(step).async_exec() for _ in range(step["times"])]
        return [_told(response) for response in await asyncio.gather(*calls)]

    return asyncio.run(ask())


def _without_loop(step: dict[str, Any]) -> Any:
    _request(step).async_exec()
    return "done"


def _thread(step: dict[str, Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(_exec(step)))
    thread.start()
    thread.join()
    return found


def _threads(step: dict[str, Any]) -> Any:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(_exec, [step] * step["times"]))


def _control(step: dict[str, Any]) -> Any:
    files = {path: text.encode() for path, text in step.get("files", {}).items()}
    if step["do"] == "load":
        pb_utils.load_model(step["model"], config=step.get("config", ""), files=files or None)
    else:
        pb_utils.unload_model(step["model"])
    return "done"


def _is_ready(step: dict[str, Any]) -> Any:
    return pb_utils.is_model_ready(step["model"], step.get("version", ""))


_DEEDS = {
    "exec": _exec,
    "exec decoupled": _exec_decoupled,
    "replay": _replayed,
    "async": _async_exec,
    "async decoupled": _async_exec_decoupled,
    "gather": _gather,
    "without loop": _without_loop,
    "thread": _thread,
    "threads": _threads,
    "load": _control,
    "unload": _control,
    "ready": _is_ready,
}
