"""Models that call themselves or each other in a circle: an answer or an error, never a wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support import models
from support.callers import stream
from support.ensembles import ensemble, step
from support.servers import RunningServer, serving

_TWO = "instance_group [ { count: 2 kind: KIND_CPU } ]"
_DECOUPLED = "model_transaction_policy { decoupled: true }"

#: Calls the model that IN names first, with the rest of IN, which is JSON; answers with the answer.
CHAIN = """
    import json
    import threading
    import numpy as np
    import triton_python_backend_utils as pb_utils

    def text(value):
        return np.array([json.dumps(value)], np.object_)

    def next_of(request):
        tensor = pb_utils.get_input_tensor_by_name(request, "IN")
        name, *rest = json.loads(tensor.as_numpy()[0]) or [""]
        if not name:
            return None
        return pb_utils.InferenceRequest(model_name=name, requested_output_names=["OUT"],
                                         inputs=[pb_utils.Tensor("IN", text(rest))])

    def told(answers):
        found = "nothing"
        for answer in answers:
            if answer.has_error():
                return answer.error().message()
            for tensor in answer.output_tensors():
                found = json.loads(tensor.as_numpy()[0])
        return found

    def ask(request):
        asked = next_of(request)
        return "end" if asked is None else told(asked.exec(decoupled=True))

    def response(found):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", text(found))])

    def send(request, found):
        request.get_response_sender().send(
            response(found), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    class TritonPythonModel:
{METHODS}
"""
SYNC = """
        def execute(self, requests):
            return [response(ask(request)) for request in requests]
"""
THREAD = """
        def execute(self, requests):
            found = []
            for request in requests:
                thread = threading.Thread(target=lambda: found.append(ask(request)))
                thread.start()
                thread.join()
            return [response(one) for one in found]
"""
COROUTINE = """
        async def execute(self, requests):
            found = []
            for request in requests:
                asked = next_of(request)
                found.append("end" if asked is None
                             else told(await asked.async_exec(decoupled=True)))
            return [response(one) for one in found]
"""
DECOUPLED_COROUTINE = """
        async def execute(self, requests):
            for request in requests:
                asked = next_of(request)
                found = "end" if asked is None else told(await asked.async_exec(decoupled=True))
                send(request, found)
"""
DECOUPLED_THREAD = """
        def execute(self, requests):
            for request in requests:
                threading.Thread(target=lambda one: send(one, ask(one)), args=(request,)).start()
"""

REFUSED = "would wait for ever"


def chain(repository: Path, name: str, methods: str, more: str = "") -> None:
    """A model that calls others in turn."""
    config = models.identity_config("TYPE_STRING", dims=(1,), more=more)
    models.python_model(repository, name, CHAIN.replace("{METHODS}\n", methods), config)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tmp_path_factory.mktemp("repository")
    for name in ("a", "b"):
        chain(path, name, SYNC)
    chain(path, "thread", THREAD)
    chain(path, "coroutine", COROUTINE)
    chain(path, "two", SYNC, _TWO)
    chain(path, "free", DECOUPLED_COROUTINE, _DECOUPLED)
    chain(path, "free_thread", DECOUPLED_THREAD, _DECOUPLED)
    several = 'key: "max_concurrent_executions" value { string_value: "3" }'
    chain(path, "several", COROUTINE, f"parameters {{ {several} }}")
    text = models.identity_config("TYPE_STRING", dims=(1,))
    models.python_model(path, "plain", models.IDENTITY_PY, text)
    for name, inner in (("over_a", "a"), ("over_plain", "plain")):
        maps = ("plain", {"IN": "IN"}, {"OUT": "x"}), (inner, {"IN": "x"}, {"OUT": "OUT"})
        steps = [step(model, inputs, outputs) for model, inputs, outputs in maps]
        ensemble(path, name, ["IN STRING 1"], ["OUT STRING 1"], steps)
    with serving(path) as running:
        yield running


def follow(server: RunningServer, *names: str) -> Any:
    """Ask the first model to ask the second, and so on; what came of it."""
    tensor = grpc.InferInput("IN", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([json.dumps(names[1:])], np.object_))
    result, *_ = stream(server, names[0], [tensor])
    if isinstance(result, Exception):
        raise result
    return json.loads(result.as_numpy("OUT")[0])


@pytest.mark.parametrize("name", ["a", "thread", "coroutine"])
def test_a_model_with_one_instance_cannot_call_itself(server: RunningServer, name: str) -> None:
    assert REFUSED in follow(server, name, name)
    assert f"every instance of model '{name}' version 1" in follow(server, name, name)
    assert follow(server, name) == "end", "it goes on after that"


def test_a_model_with_two_instances_can_call_itself_once(server: RunningServer) -> None:
    assert follow(server, "two", "two") == "end"
    assert REFUSED in follow(server, "two", "two", "two")


@pytest.mark.parametrize(
    "names",
    [
        ("a", "b", "a"),
        ("a", "thread", "coroutine", "b", "thread"),
        ("coroutine", "a", "coroutine"),
        ("a", "over_a"),
        ("b", "over_a", "b"),
        ("a", "free", "a"),
        ("a", "free_thread", "a"),
        ("free", "a", "free", "a"),
        ("several", "a", "several", "a"),
    ],
)
def test_a_circle_is_told(server: RunningServer, names: tuple[str, ...]) -> None:
    assert REFUSED in follow(server, *names)


@pytest.mark.parametrize(
    "names",
    [
        ("a", "b", "thread", "coroutine", "two", "two"),
        ("free", "free", "free", "a"),
        ("free_thread", "free_thread", "a", "free_thread"),
        ("a", "free", "b", "free"),
        ("several", "several", "several"),
        ("a", "over_plain"),
        ("b", "over_a"),
    ],
)
def test_what_only_looks_like_a_circle_runs(server: RunningServer, names: tuple[str, ...]) -> None:
    found = follow(server, *names)
    assert found == "end" or names[-1] == "over_plain"


def test_an_instance_that_executes_several_can_call_itself_as_often(server: RunningServer) -> None:
    assert REFUSED in follow(server, "several", "several", "several", "several")


def test_circles_that_meet_leave_nobody_waiting(server: RunningServer) -> None:
    roads = [("a", "b", "a"), ("b", "a", "b"), ("a", "b"), ("b", "a"), ("two", "two")] * 6
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda names: follow(server, *names), roads))
    assert all(one == "end" or REFUSED in one for one in found)
    assert follow(server, "a", "b") == follow(server, "b", "a") == "end"
