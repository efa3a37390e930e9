"""Triton's reference backends identity, repeat and square, which tests and benchmarks stand on.

Sources of their behaviour: triton-inference-server's identity_backend, repeat_backend and
square_backend on GitHub. None of them has a model file.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...ipc.dtypes import from_config, numpy_dtype
from ...ipc.errors import (
    InvalidArgumentError,
    StatusError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
)
from ...ipc.messages import Parameter
from ..backend import Array, Model, Request, RequestBackend, Response


class IdentityBackend(RequestBackend):
    """Answers each OUTPUT<index> with INPUT<index>, of any datatype and shape.

    The model's parameters may slow it down: `creation_delay_sec` the load, `execute_delay_ms` each
    execution, multiplied by `instance_wise_delay_multiplier` and the instance's number.
    """

    pure = True

    #: Every response carries these four, one of each type that a parameter can have.
    PARAMETERS: Mapping[str, Parameter] = {
        "param0": "an example string parameter",
        "param1": 42,
        "param2": False,
        "param3": 123.123,
    }

    def __init__(self) -> None:
        self._delay_s = 0.0
        #: The input of each output.
        self._inputs: dict[str, str] = {}
        #: What optional inputs read as when they are absent, without the batch dimension.
        self._zeros: dict[str, Array] = {}
        self._batching = False

    def load(self, model: Model) -> None:
        """Pair inputs with outputs. Raises InvalidArgumentError when they do not match."""
        config = model.config
        sequence: Mapping[str, Any] = config.get("sequence_batching") or {}
        states: Sequence[Mapping[str, Any]] = sequence.get("state", ())
        inputs = {
            _index(model, each, "INPUT"): each
            for each in [*config.get("input", ()), *_named(states, "input_name")]
        }
        outputs = {
            _index(model, each, "OUTPUT"): each
            for each in [*config.get("output", ()), *_named(states, "output_name")]
        }
        if len(inputs) != len(outputs):
            raise InvalidArgumentError(
                f"model '{model.name}': model configuration must have equal input/output pairs"
            )
        for index, output in outputs.items():
            if index not in inputs:
                raise InvalidArgumentError(
                    f"model '{model.name}': expected input and output indices to match, output "
                    f"'{output['name']}' has no INPUT{index}"
                )
            _check_pair(model, inputs[index], output)
        self._inputs = {each["name"]: f"INPUT{index}" for index, each in outputs.items()}
        self._zeros = {each["name"]: _zeros(each) for each in inputs.values() if _optional(each)}
        self._batching = bool(config.get("max_batch_size"))
        delay_ms = _number(model, "execute_delay_ms")
        multiplier = _number(model, "instance_wise_delay_multiplier") * _instance_number(model)
        self._delay_s = delay_ms * max(multiplier, 1) / 1000
        time.sleep(_number(model, "creation_delay_sec"))

    def unload(self) -> None:
        """Nothing to finalize."""

    def execute(self, requests: Sequence[Request]) -> list[Response | None]:
        """Answer with the inputs themselves: they are copied when the response is sent."""
        if self._delay_s:
            time.sleep(self._delay_s)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        outputs: dict[str, Array] = {}
        for name in request.outputs:
            input_name = self._inputs[name]
            array = request.inputs.get(input_name)
            if array is None:
                array = self._absent(input_name, request)
            if array is None:
                return Response(error=UnsupportedError(f"failed to get input '{input_name}'"))
            outputs[name] = array
        return Response(outputs, dict(self.PARAMETERS))

    def _absent(self, name: str, request: Request) -> Array | None:
        zeros = self._zeros.get(name)
        if zeros is None or not self._batching:
            return zeros
        rows = next((array.shape[0] for array in request.inputs.values()), 1)
        return np.broadcast_to(zeros, (rows, *zeros.shape))


class _ResponseThreads(RequestBackend):
    """A backend that answers each request from a thread of its own, any number of times."""

    def __init__(self) -> None:
        self._model = ""
        self._threads: set[threading.Thread] = set()
        self._unloading = threading.Event()

    def load(self, model: Model) -> None:
        """Check the configuration. Raises InvalidArgumentError when it is not this backend's."""
        self._model = model.name
        self._check(model)
        policy: dict[str, Any] | None = model.config.get("model_transaction_policy")
        if policy is None or not policy.get("decoupled"):
            raise InvalidArgumentError(
                f"model '{model.name}': backend '{model.config.get('backend')}' answers a request "
                f"any number of times, set model_transaction_policy {{ decoupled: true }}"
            )

    def unload(self) -> None:
        """End the threads: requests that they are still answering get an error."""
        self._unloading.set()
        for thread in list(self._threads):
            thread.join()

    @abstractmethod
    def _check(self, model: Model) -> None:
        """Raise InvalidArgumentError when the configuration is not this backend's."""

    @abstractmethod
    def _respond(self, request: Request, job: Any) -> None:
        """Send all responses but the final one; runs in the thread of the request."""

    def _start(self, request: Request, job: Any) -> None:
        """Start the thread. `job` holds copies: the inputs end with execute."""
        thread = threading.Thread(target=self._answer, args=(request, job), daemon=True)
        self._threads.add(thread)
        thread.start()

    def _answer(self, request: Request, job: Any) -> None:
        try:
            self._respond(request, job)
        except StatusError as error:
            request.respond(Response(error=error), True)
        else:
            request.respond(None, True)
        finally:
            self._threads.discard(threading.current_thread())

    def _pause(self, seconds: float) -> None:
        """Wait as a slow model would. Raises UnavailableError when the model is unloaded."""
        if self._unloading.wait(seconds) if seconds > 0 else self._unloading.is_set():
            raise UnavailableError(f"model '{self._model}' was unloaded before it had answered")


class RepeatBackend(_ResponseThreads):
    """Sends back the elements of IN one by one, each after its DELAY, numbered by IDX.

    WAIT says after how many milliseconds the instance takes the next request, which may be before
    the responses of this one are out.
    """

    def execute(self, requests: Sequence[Request]) -> list[Response | None]:
        """Start answering, and hold the instance for WAIT milliseconds."""
        results: list[Response | None] = []
        wait_ms = 0
        for request in requests:
            elements, delays = request.inputs["IN"], request.inputs["DELAY"]
            if elements.shape != delays.shape:
                results.append(Response(error=_different_shapes(elements, delays)))
                continue
            wait_ms = int(request.inputs["WAIT"].reshape(-1)[0])
            self._start(request, (elements.copy(), delays.tolist()))
            results.append(None)
        time.sleep(wait_ms / 1000)
        return results

    def _respond(self, request: Request, job: tuple[Array, list[int]]) -> None:
        elements, delays = job
        for index, delay_ms in enumerate(delays):
            self._pause(delay_ms / 1000)
            if request.is_cancelled():
                return
            outputs: dict[str, Array] = {
                "OUT": elements[index : index + 1],
                "IDX": np.array([index], np.uint32),
            }
            request.respond(Response({name: outputs[name] for name in request.outputs}), False)

    def _check(self, model: Model) -> None:
        if model.config.get("max_batch_size"):
            raise InvalidArgumentError(
                f"model '{model.name}': repeat backend only supports models with "
                f"max_batch_size == 0"
            )
        inputs = _tensors(model, "input", {"IN": "INT32", "DELAY": "UINT32", "WAIT": "UINT32"})
        outputs = _tensors(model, "output", {"OUT": "INT32", "IDX": "UINT32"})
        elements, delays = inputs["IN"]["dims"], inputs["DELAY"]["dims"]
        if len(elements) != 1:
            raise InvalidArgumentError(
                f"model '{model.name}': expected IN shape to have one dimension, got {elements}"
            )
        if elements != delays:
            raise InvalidArgumentError(
                f"model '{model.name}': expected IN and DELAY shape to match, got {elements} and "
                f"{delays}"
            )
        for name, tensor in (("WAIT", inputs["WAIT"]), *outputs.items()):
            _check_single(model, name, tensor)


class SquareBackend(_ResponseThreads):
    """Answers IN, a number, with as many responses as it says, OUT being that number in each.

    CUSTOM_INFER_DELAY_NS and CUSTOM_OUTPUT_DELAY_NS slow every response down; the last
    CUSTOM_EMPTY_COUNT responses are left out, and the CUSTOM_FAIL_COUNT before them are errors.
    """

    def __init__(self) -> None:
        super().__init__()
        self._delay_s = 0.0
        self._fail_count = 0
        self._empty_count = 0

    def load(self, model: Model) -> None:
        """Check the configuration and read the parameters."""
        super().load(model)
        infer_ns = _number(model, "CUSTOM_INFER_DELAY_NS")
        self._delay_s = (infer_ns + _number(model, "CUSTOM_OUTPUT_DELAY_NS")) / 1e9
        self._fail_count = _number(model, "CUSTOM_FAIL_COUNT")
        self._empty_count = _number(model, "CUSTOM_EMPTY_COUNT")

    def execute(self, requests: Sequence[Request]) -> list[Response | None]:
        """Start answering each request, which may have one row at most."""
        results: list[Response | None] = []
        for request in requests:
            number = request.inputs["IN"]
            if number.ndim == 2 and number.shape[0] != 1:
                error = InvalidArgumentError("unexpected shape for IN input")
                results.append(Response(error=error))
                continue
            self._start(request, number.copy())
            results.append(None)
        return results

    def _respond(self, request: Request, job: Array) -> None:
        count = int(job.reshape(-1)[0])
        for index in range(count - self._empty_count):
            self._pause(self._delay_s)
            if request.is_cancelled():
                return
            if index + self._fail_count + self._empty_count < count:
                request.respond(Response({"OUT": job}), False)
            else:
                request.respond(Response(error=UnknownError("simulated failure")), False)

    def _check(self, model: Model) -> None:
        inputs = _tensors(model, "input", {"IN": "INT32"})
        outputs = _tensors(model, "output", {"OUT": "INT32"})
        _check_single(model, "IN", inputs["IN"])
        _check_single(model, "OUT", outputs["OUT"])


# --- checks of the configuration ------------------------------------------------------------------


def _named(states: Sequence[Mapping[str, Any]], side: str) -> list[Mapping[str, Any]]:
    """States of sequences as inputs or as outputs."""
    return [{**state, "name": state[side]} for state in states]


def _index(model: Model, tensor: Mapping[str, Any], prefix: str) -> str:
    """What follows INPUT or OUTPUT in a tensor's name."""
    name: str = tensor["name"]
    if not name.startswith(prefix):
        raise InvalidArgumentError(
            f"model '{model.name}': expected {prefix.lower()} name to follow {prefix}<index> "
            f"pattern, got '{name}'"
        )
    return name[len(prefix) :]


def _check_pair(model: Model, source: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    if source["data_type"] != target["data_type"]:
        raise InvalidArgumentError(
            f"model '{model.name}': expected input and output datatype to match, got "
            f"{source['data_type']} and {target['data_type']}"
        )
    if _graph_dims(source) != _graph_dims(target):
        raise InvalidArgumentError(
            f"model '{model.name}': expected input and output shape to match, got "
            f"{_graph_dims(source)} and {_graph_dims(target)}"
        )


def _graph_dims(tensor: Mapping[str, Any]) -> list[int]:
    reshape = tensor.get("reshape")
    return list(tensor["dims"] if reshape is None else reshape.get("shape", ()))


def _optional(tensor: Mapping[str, Any]) -> bool:
    return bool(tensor.get("optional"))


def _zeros(tensor: Mapping[str, Any]) -> Array:
    datatype = from_config(tensor["data_type"])
    shape = [max(dim, 1) for dim in _graph_dims(tensor)]
    return np.full(shape, b"" if datatype == "BYTES" else 0, numpy_dtype(datatype))


def _tensors(model: Model, side: str, expected: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The configuration's inputs or outputs by name; raises unless they are the expected ones."""
    listed: list[dict[str, Any]] = model.config.get(side, [])
    if len(listed) != len(expected):
        raise InvalidArgumentError(
            f"model '{model.name}': expected {len(expected)} {side}{'s' * (len(expected) > 1)}, "
            f"got {len(listed)}"
        )
    found = {tensor["name"]: tensor for tensor in listed}
    for name, datatype in expected.items():
        if name not in found:
            raise InvalidArgumentError(
                f"model '{model.name}': expected {side} tensor names to be "
                f"{', '.join(expected)}, got {', '.join(found)}"
            )
        if found[name]["data_type"] != f"TYPE_{datatype}":
            raise InvalidArgumentError(
                f"model '{model.name}': expected {name} datatype to be {datatype}, got "
                f"{found[name]['data_type']}"
            )
    return found


def _check_single(model: Model, name: str, tensor: Mapping[str, Any]) -> None:
    if list(tensor["dims"]) != [1]:
        raise InvalidArgumentError(
            f"model '{model.name}': expected {name} shape to be [1], got {list(tensor['dims'])}"
        )


def _different_shapes(elements: Array, delays: Array) -> StatusError:
    return InvalidArgumentError(
        f"expected IN and DELAY shape to match, got {list(elements.shape)} and {list(delays.shape)}"
    )


def _number(model: Model, key: str) -> int:
    """A parameter that is a count or a duration, 0 when absent."""
    text = model.parameter(key)
    if text is None:
        return 0
    if not text.isdecimal():
        raise InvalidArgumentError(
            f"model '{model.name}': parameter '{key}' is '{text}', expected a whole number"
        )
    return int(text)


def _instance_number(model: Model) -> int:
    """The number that ends an instance's name (`m_0_1`), 0 when there is none."""
    number = model.instance.name.rpartition("_")[2]
    return int(number) if number.isdecimal() else 0
