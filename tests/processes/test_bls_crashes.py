"""Models that call others, when one of the two dies, is unloaded, or the server stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support import callers, models
from support.callers import run
from support.clients import eventually, get, pending
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Says that it has begun, and answers IN + 1 when there is a byte in its pipe. An IN below zero is
#: answered at once.
WAITS = """
    import os
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self._folder = args["model_repository"]

        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            if array[0] >= 0:
                open(os.path.join(self._folder, "begun"), "w").close()
                with open(os.path.join(self._folder, "pipe"), "rb") as pipe:
                    pipe.read(1)
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array + 1)])
"""
#: Answers IN by IN for ever, until it is cancelled, which it tells in the log.
ENDLESS = """
    import threading
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                threading.Thread(target=self._answer, args=(request,), daemon=True).start()

        def _answer(self, request):
            sender = request.get_response_sender()
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().copy()
            while not sender.is_cancelled():
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
            pb_utils.Logger.log_info(f"cancelled {int(array[0])}")
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
#: A MiB, which the arenas have room for three times.
CALL = 'found = call("waits", np.zeros(1 << 18, np.float32))'
SHORT = 'found = call("waits", -1)'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    callers.scripted(tmp_path, "script")
    callers.scripted(tmp_path, "other_script")
    models.python_model(tmp_path, "waits", WAITS, models.identity_config())
    os.mkfifo(tmp_path / "waits" / "pipe")
    decoupled = models.identity_config(more="model_transaction_policy { decoupled: true }")
    models.python_model(tmp_path, "endless", ENDLESS, decoupled)
    arguments = ["--arena-byte-size=4194304", "--model-control-mode=explicit", "--load-model=*"]
    with serving(tmp_path, arguments=arguments) as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def begun(folder: Path) -> None:
    """Wait until the model that waits has begun."""
    mark = folder / "waits" / "begun"
    eventually(mark.exists, "the call is executed")
    mark.unlink()


def let_go(folder: Path) -> None:
    with (folder / "waits" / "pipe").open("wb") as pipe:
        pipe.write(b"x")


def kill(server: RunningServer, model: str) -> None:
    (worker,) = server.workers(model)
    worker.kill()
    eventually(
        lambda: [w.pid for w in server.workers(model)] not in ([], [worker.pid]), "a new worker"
    )
    eventually(lambda: is_ready(server, model), "it serves again")


def test_a_model_is_told_when_the_one_that_it_calls_dies(
    server: RunningServer, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    for _ in range(5):  # what was lent comes back, else the caller's arena would be full
        answer = pool.submit(run, server, "script", CALL)
        begun(tmp_path)
        kill(server, "waits")
        assert "the request to model 'waits' was lost: the worker of" in answer.result(60)
    assert run(server, "script", SHORT) == [[0.0]]


def test_calls_of_a_dead_worker_are_forgotten(
    server: RunningServer, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    for _ in range(5):
        lost = pool.submit(run, server, "script", CALL)
        begun(tmp_path)
        kill(server, "script")
        with pytest.raises(InferenceServerException, match="was killed by signal SIGKILL"):
            lost.result(60)
        let_go(tmp_path)
        assert run(server, "script", SHORT) == [[0.0]]
    assert get(server, "/v2/health/ready").status == 200


def test_queued_calls_of_a_dead_worker_do_not_run(
    server: RunningServer, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    first = pool.submit(run, server, "other_script", CALL)
    begun(tmp_path)
    many = """
calls = [request("waits", -1) for _ in range(60)]
found = [told(next(one)) for one in [one.exec(decoupled=True) for one in calls]]
"""
    lost = pool.submit(run, server, "script", many)
    # Some of them wait at the worker, behind the first call.
    eventually(lambda: pending(server, "waits") > 20, "the others wait")
    kill(server, "script")
    with pytest.raises(InferenceServerException, match="SIGKILL"):
        lost.result(60)
    eventually(lambda: pending(server, "waits") == 0, "it is withdrawn")
    let_go(tmp_path)
    first.result(60)
    assert run(server, "script", SHORT) == [[0.0]]
    statistics = get(server, "/v2/models/waits/stats").json["model_stats"][0]
    assert statistics["execution_count"] == 2


def is_ready(server: RunningServer, model: str) -> bool:
    return get(server, f"/v2/models/{model}/ready").status == 200


def test_answers_of_a_dead_worker_are_read_to_the_end(server: RunningServer) -> None:
    keep = """
data = np.zeros(1 << 18, np.float32) - 1
args["kept"] = request("waits", data).exec(); found = 0
"""
    use = 'found = float(args.pop("kept").output_tensors()[0].as_numpy().sum())'
    for _ in range(5):
        run(server, "script", keep)
        kill(server, "waits")
        assert run(server, "script", use) == 0.0


def test_a_cancelled_call_is_told_to_the_model_that_answers(server: RunningServer) -> None:
    code = """
answers = request("endless", {number}).exec(decoupled=True)
first = told(next(answers))
answers.cancel()
found = [first, sum(1 for one in answers if one.has_error())]
"""
    assert run(server, "script", code.replace("{number}", "7")) == [[[7.0]], 0]
    server.wait_for_line("cancelled 7")


def test_with_its_caller_an_endless_answer_ends(
    server: RunningServer, pool: ThreadPoolExecutor
) -> None:
    code = 'found = [0 for one in request("endless", 8).exec(decoupled=True)]'
    lost = pool.submit(run, server, "script", code)
    eventually(lambda: responses(server) > 0, "it answers")
    kill(server, "script")
    with pytest.raises(InferenceServerException, match="SIGKILL"):
        lost.result(60)
    server.wait_for_line("cancelled 8")


def responses(server: RunningServer) -> int:
    statistics = get(server, "/v2/models/endless/stats").json["model_stats"][0]
    return sum(one["success"]["count"] for one in statistics["response_stats"].values())


def test_a_client_that_goes_leaves_the_calls_of_its_model_alone(
    server: RunningServer, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    tensor = grpc.InferInput("DO", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([CALL.replace("np.zeros", "np.ones")], np.object_))
    with grpc.InferenceServerClient(server.grpc) as client:
        call = client.async_infer("script", [tensor], lambda result, error: None)
        begun(tmp_path)
        call.cancel()
    let_go(tmp_path)
    eventually(lambda: succeeded(server, "waits") == 1, "the call is answered")
    assert run(server, "script", SHORT) == [[0.0]]


def succeeded(server: RunningServer, model: str) -> int:
    statistics = get(server, f"/v2/models/{model}/stats").json["model_stats"][0]
    count = statistics["inference_stats"]["success"]["count"]
    assert isinstance(count, int)
    return count


def test_an_unload_waits_for_calls_on_both_sides(
    server: RunningServer, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    for model in ("waits", "script"):
        answer = pool.submit(run, server, "script", CALL)
        begun(tmp_path)
        with grpc.InferenceServerClient(server.grpc) as client:
            client.unload_model(model)
            assert not is_ready(server, model)
            let_go(tmp_path)
            assert answer.result(60)[0][0] == 1.0
            server.wait_for_line(f"successfully unloaded '{model}'")
            client.load_model(model)
    assert run(server, "script", SHORT) == [[0.0]]


def test_a_server_that_stops_lets_calls_finish_that_come_late(
    server: RunningServer, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    twice = f"{CALL}; found.append(call('waits', -1)[0])"
    answer = pool.submit(run, server, "script", twice)
    begun(tmp_path)
    stopped = pool.submit(server.stop)
    server.wait_for_line("Waiting for in-flight requests to complete")
    let_go(tmp_path)

    assert answer.result(60)[-1] == [0.0]
    assert stopped.result(60) == 0


def test_a_model_may_load_and_unload_others_all_its_life(
    server: RunningServer, tmp_path: Path
) -> None:
    models.python_identity(tmp_path, "helper")
    models.python_identity(tmp_path, "farewell")
    lively = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            pb_utils.load_model("helper")
            assert pb_utils.is_model_ready("helper")

        def execute(self, requests):
            return [pb_utils.InferenceResponse(
                [pb_utils.get_input_tensor_by_name(one, "IN")]) for one in requests]

        def finalize(self):
            pb_utils.unload_model("helper")
            pb_utils.load_model("farewell")
"""
    models.python_model(tmp_path, "lively", lively, models.identity_config())
    with grpc.InferenceServerClient(server.grpc) as client:
        client.load_model("lively")
        assert is_ready(server, "helper")
        client.unload_model("lively")
        eventually(lambda: is_ready(server, "farewell"), "finalize has loaded it")
        assert not is_ready(server, "helper")
