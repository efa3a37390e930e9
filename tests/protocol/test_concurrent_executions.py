"""A model whose `async def execute` has several batches in flight, and its limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.http as httpclient
from support import models
from support.clients import (
    eventually,
    get,
    grpc_stub,
    index,
    infer_request,
    input_tensor,
    pending,
    post_json,
    statistics,
)
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Answers with the most executions that went on at once. Of {together} executions none ends before
#: all have begun; a request whose id is that of a gate waits until it is opened.
GATHERED = """
    import asyncio
    import os

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.now = self.most = self.begun = 0
            self.complete = asyncio.Event()

        async def execute(self, requests):
            self.now += 1
            self.begun += 1
            self.most = max(self.most, self.now)
            if self.begun % {together} == 0:
                self.complete.set()
                self.complete = asyncio.Event()
            else:
                await self.complete.wait()
            await asyncio.sleep(0)
            responses = [await self.answer(request) for request in requests]
            self.now -= 1
            return responses

        async def answer(self, request):
            id = request.request_id()
            print("runs", id, flush=True)
            if id == "dies":
                os._exit(7)
            if id == "fails":
                raise ValueError("this one is wrong")
            if id == "watches":
                while not request.is_cancelled():
                    await asyncio.sleep(0.01)
                print("the client has gone", flush=True)
            gate = os.path.join({gates!r}, id)
            if id and os.path.exists(gate):
                await asyncio.to_thread(lambda: open(gate).close())
            rows = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            output = pb_utils.Tensor("OUT", np.full_like(rows, self.most))
            return pb_utils.InferenceResponse([output])

        def finalize(self):
            print("finalized", flush=True)
"""

#: The same, decoupled: the one response to each request is the most that went on at once.
STREAMED = """
    import asyncio

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.now = self.most = self.begun = 0
            self.complete = asyncio.Event()

        async def execute(self, requests):
            (request,) = requests
            sender, id = request.get_response_sender(), request.request_id()
            if id == "fails":
                raise ValueError("this one is wrong")
            if id == "reschedules":
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                return
            self.now += 1
            self.begun += 1
            self.most = max(self.most, self.now)
            if self.begun % {together} == 0:
                self.complete.set()
                self.complete = asyncio.Event()
            else:
                await self.complete.wait()
            output = pb_utils.Tensor("OUT", np.array([self.most], np.int32))
            sender.send(pb_utils.InferenceResponse([output]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            self.now -= 1
"""

GATES = ("first", "second")


def concurrent(most: int) -> str:
    value = f'value {{ string_value: "{most}" }}'
    return f'parameters {{ key: "max_concurrent_executions" {value} }}'


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a pipe stands for each request that waits until the test opens it."""
    folder = tmp_path_factory.mktemp("gates")
    for name in GATES:
        os.mkfifo(folder / name)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, gates: Path) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")

    def model(
        name: str, together: int = 1, size: int = 0, code: str = GATHERED, **more: str
    ) -> None:
        config = models.identity_config("TYPE_INT32", max_batch_size=size, **more)  # type: ignore[arg-type]
        text = code.replace("{together}", str(together)).replace("{gates!r}", repr(str(gates)))
        models.python_model(repository, name, text, config)

    model("three", 3, more=concurrent(3))
    model("plain")
    model("free", more=concurrent(8))
    model("batched", size=4, more=concurrent(2) + "dynamic_batching { }")
    decoupled = "model_transaction_policy { decoupled: true }"
    model("stream", 3, code=STREAMED, more=concurrent(3) + decoupled)
    model("unbounded", 6, code=STREAMED, more=decoupled)
    model("sync", code=models.IDENTITY_PY, more=concurrent(2))
    model("sequences", more=concurrent(2) + "sequence_batching { }")
    with serving(repository, arguments=["--model-control-mode=explicit", "--load-model=*"]) as one:
        yield one


def ask(server: RunningServer, model: str, id: str = "", shape: Sequence[int] = (1,)) -> list[int]:
    tensor = httpclient.InferInput("IN", list(shape), "INT32")
    tensor.set_data_from_numpy(np.zeros(shape, np.int32))
    with httpclient.InferenceServerClient(server.http, network_timeout=60) as client:
        result = client.infer(model, [tensor], request_id=id).as_numpy("OUT")
    assert result is not None
    return list(result.ravel())


def test_so_many_executions_go_on_at_once_and_no_more(server: RunningServer) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(server, "three"), range(12)))

    assert answers == [[3]] * 12
    counts = statistics(server, "three")
    assert (counts["inference_count"], counts["execution_count"]) == (12, 12)
    assert counts["inference_stats"]["compute_infer"]["count"] == 12


def test_without_the_parameter_one_execution_follows_the_other(server: RunningServer) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(server, "plain"), range(6)))

    assert answers == [[1]] * 6


def test_batches_are_formed_and_answered_whole(server: RunningServer, gates: Path) -> None:
    with ThreadPoolExecutor(10) as pool:
        held = [pool.submit(ask, server, "batched", name, (1, 1)) for name in GATES]
        for name in GATES:
            server.wait_for_line(f"runs {name}")
        rest = [pool.submit(ask, server, "batched", f"b{number}", (2, 1)) for number in range(4)]
        eventually(lambda: pending(server, "batched") == 4, "both executions are taken")

        _open(gates, "first")

        assert [one.result(60) for one in rest] == [[2, 2]] * 4
        assert not held[1].done()
        _open(gates, "second")
        assert [one.result(60) for one in held] == [[2]] * 2
    counts = statistics(server, "batched")
    assert counts["inference_count"] == 10
    assert counts["execution_count"] == 4, "four of them ran in two batches of four rows"


def test_an_exception_fails_its_own_execution_alone(server: RunningServer, gates: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(ask, server, "free", "first")
        server.wait_for_line("runs first")

        with pytest.raises(InferenceServerException, match="ValueError: this one is wrong"):
            ask(server, "free", "fails")

        assert not held.done()
        _open(gates, "first")
        assert held.result(60)


def test_the_model_sees_which_client_has_gone(server: RunningServer) -> None:
    with grpc_stub(server) as stub:
        tensor = input_tensor("IN", "INT32", [1])
        request = infer_request("free", [tensor], [bytes(4)], id="watches")
        call = stub.ModelInfer.future(request)
        server.wait_for_line("runs watches")
        assert ask(server, "free")

        call.cancel()

        server.wait_for_line("the client has gone")
        assert call.code() is grpc.StatusCode.CANCELLED


def test_a_worker_that_dies_loses_all_its_executions_and_each_is_told(
    server: RunningServer, gates: Path
) -> None:
    def call(stub: Any, id: str) -> Any:
        tensor = input_tensor("IN", "INT32", [1])
        return stub.ModelInfer.future(infer_request("free", [tensor], [bytes(4)], id=id))

    others = ("second", "watches")
    before = {id: server.log.count(f"runs {id}") for id in others}
    with grpc_stub(server) as stub:
        lost = [call(stub, id) for id in others]
        for id in others:
            eventually(lambda id=id: server.log.count(f"runs {id}") > before[id], "both run")
        lost.append(call(stub, "dies"))

        for one in lost:
            assert one.code() is grpc.StatusCode.UNAVAILABLE
            assert one.details().endswith(
                "the request to model 'free' was lost: the worker of model instance 'free_0' "
                "exited with status 7"
            )
    eventually(lambda: get(server, "/v2/models/free/ready").status == 200, "it comes back")
    assert ask(server, "free") == [1]


def test_an_unload_waits_for_all_executions(server: RunningServer, gates: Path) -> None:
    post_json(server, "/v2/repository/models/free/load", {})
    with ThreadPoolExecutor(2) as pool:
        before = {name: server.log.count(f"runs {name}") for name in GATES}
        ends = server.log.count("finalized")
        held: list[Future[list[int]]] = [pool.submit(ask, server, "free", name) for name in GATES]
        for name in GATES:
            eventually(
                lambda name=name: server.log.count(f"runs {name}") > before[name], "both run"
            )
        assert post_json(server, "/v2/repository/models/free/unload", {}).status == 200
        assert get(server, "/v2/models/free/ready").status == 404

        assert server.log.count("finalized") == ends
        for name in reversed(GATES):
            _open(gates, name)

        assert [one.result(60) for one in held] == [[2], [2]]
    eventually(lambda: server.log.count("finalized") == ends + 1, "it is finalized")
    post_json(server, "/v2/repository/models/free/load", {})


def streamed(server: RunningServer, model: str, *ids: str) -> list[int | str]:
    """Ask on one stream: the number in each response, or its error."""
    requests = [
        infer_request(model, [input_tensor("IN", "INT32", [1])], [bytes(4)], id=id) for id in ids
    ]
    with grpc_stub(server) as stub:
        answers = list(stub.ModelStreamInfer(iter(requests), timeout=60))
    return [
        answer.error_message
        or int(np.frombuffer(answer.infer_response.raw_output_contents[0], np.int32)[0])
        for answer in answers
    ]


def test_a_decoupled_model_is_bounded_only_if_it_says_so(server: RunningServer) -> None:
    assert streamed(server, "stream", *"abcdefghijkl") == [3] * 12
    assert min(streamed(server, "unbounded", *"abcdef")) == 6


def test_what_a_bounded_decoupled_execution_leaves_open_is_answered(server: RunningServer) -> None:
    (failed,) = streamed(server, "stream", "fails")
    (rescheduled,) = streamed(server, "stream", "reschedules")

    assert str(failed).endswith("ValueError: this one is wrong")
    assert "the model is not configured to handle such a flag" in str(rescheduled)
    assert streamed(server, "stream", *"mno") == [3] * 3


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("sync", "which takes an `async def execute`"),
        ("sequences", "the requests of a sequence run one after the other"),
    ],
)
def test_what_cannot_run_at_once_is_not_loaded(
    server: RunningServer, model: str, reason: str
) -> None:
    state, said = index(server)[model, "1"]

    assert state == "UNAVAILABLE"
    assert f"model '{model}': parameter 'max_concurrent_executions' is '2'" in said
    assert reason in said


def test_with_the_rate_limiter_a_turn_is_for_one_execution(tmp_path: Path) -> None:
    code = GATHERED.replace("{together}", "1").replace("{gates!r}", "'/nowhere'")
    config = models.identity_config("TYPE_INT32", more=concurrent(4))
    models.python_model(tmp_path, "limited", code, config)
    with (
        serving(tmp_path, arguments=["--rate-limit=execution_count"]) as running,
        ThreadPoolExecutor(6) as pool,
    ):
        answers = list(pool.map(lambda _: ask(running, "limited"), range(6)))

    assert answers == [[1]] * 6


def _open(gates: Path, name: str) -> None:
    with (gates / name).open("w"):
        pass
