"""Answers with what the expression in DO comes to, or with the exception that it raises."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

#: What expressions have put away; it outlives them.
_kept: dict[str, Any] = {}


class TritonPythonModel:
    """What the server looks for. It gets one request at a time: it does not batch."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Evaluate the expression of the request."""
        expression = pb_utils.get_input_tensor_by_name(requests[0], "DO").as_numpy()[0].decode()
        names = {**_NAMES, "request": requests[0]}
        # Not there yet when the real server imports the file to complete its configuration.
        names |= {"FAMILY": pb_utils.MetricFamily, "response": pb_utils.InferenceResponse}
        try:
            text = repr(eval(expression, names))
        except Exception as error:  # whatever it is, it is the answer
            text = _told(error)
        return [pb_utils.InferenceResponse([_tensor(np.array([text], np.object_), "OUT")])]


def _told(error: Exception) -> str:
    """The exception's type, and its words unless they are those of the language or a library."""
    name = type(error).__name__
    worded = isinstance(error, (pb_utils.TritonModelException, ValueError, KeyError))
    return f"{name}: {error}" if worded else name


def _tensor(array: Any, name: str = "x") -> Any:
    return pb_utils.Tensor(name, array)


def _objects(*elements: object) -> Any:
    return np.array(elements, dtype=np.object_)


def _config(**fields: Any) -> Any:
    """A configuration to be completed, as the server gives it."""
    whole = {"name": "m", "max_batch_size": 0, "input": [], "output": [], **fields}
    return pb_utils.ModelConfig(json.dumps(whole))


def _completed(config: Any, *calls: tuple[Any, ...]) -> Any:
    """The configuration after these calls of its methods."""
    for method, *arguments in calls:
        getattr(config, method)(*arguments)
    return config.as_dict()


def _keep(name: str, value: object) -> None:
    _kept[name] = value


def _kind(value: object) -> str:
    return type(value).__name__


_NAMES: dict[str, Any] = {
    "pb": pb_utils,
    "np": np,
    "json": json,
    "tensor": _tensor,
    "objects": _objects,
    "config": _config,
    "completed": _completed,
    "keep": _keep,
    "kept": _kept,
    "kind": _kind,
}
