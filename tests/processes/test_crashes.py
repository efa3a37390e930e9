"""A worker that dies takes nothing with it, and a supervisor that dies leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as http
from support import models
from support.clients import eventually
from support.servers import RunningServer, launch, serving
from tritonclient.utils import InferenceServerException

SIX = np.arange(6, dtype=np.float32)


def infer(client: http.InferenceServerClient, model: str) -> np.ndarray:
    tensor = http.InferInput("IN", [6], "FP32")
    tensor.set_data_from_numpy(SIX)
    result: np.ndarray | None = client.infer(model, [tensor]).as_numpy("OUT")
    assert result is not None
    return result


@pytest.fixture
def two_models(tmp_path: Path) -> Iterator[RunningServer]:
    models.python_identity(tmp_path, "victim")
    models.python_identity(tmp_path, "bystander")
    with serving(tmp_path) as running:
        yield running


def test_other_models_answer_every_request_while_a_worker_is_killed(
    two_models: RunningServer,
) -> None:
    stop = threading.Event()
    answered = {"victim": 0, "bystander": 0}
    refused: list[str] = []

    def load(model: str) -> None:
        with http.InferenceServerClient(two_models.http) as client:
            while not stop.is_set():
                try:
                    np.testing.assert_array_equal(infer(client, model), SIX)
                    answered[model] += 1
                except InferenceServerException as error:
                    refused.append(f"{model}: {error}")

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load, name) for name in ("victim", "bystander") * 2]
        for _kill in range(2):
            (worker,) = two_models.workers("victim")
            before = dict(answered)
            eventually(lambda before=before: answered["victim"] > before["victim"] + 5, "load")
            worker.send_signal(signal.SIGKILL)
            worker.wait(10)
            eventually(
                lambda gone=worker.pid: (
                    [w.pid for w in two_models.workers("victim")] not in ([], [gone])
                ),
                "a new worker",
            )
            served = answered["victim"]
            eventually(lambda served=served: answered["victim"] > served + 5, "serving again")
        stop.set()
        for future in running:
            future.result(timeout=30)

    assert answered["bystander"] > 20
    for message in refused:
        assert message.startswith("victim: [503]")
        assert "'victim_0' was killed by signal SIGKILL" in message


def test_a_pure_models_requests_survive_the_death_of_its_worker(tmp_path: Path) -> None:
    models.identity(
        tmp_path,
        "slow",
        more='parameters { key: "execute_delay_ms" value { string_value: "1500" } }',
    )
    with (
        serving(tmp_path) as running,
        http.InferenceServerClient(running.http, concurrency=2) as client,
    ):
        (worker,) = running.workers("slow")
        tensor = http.InferInput("INPUT0", [6], "FP32")
        tensor.set_data_from_numpy(SIX)
        idle = worker.num_ctx_switches().voluntary
        request = client.async_infer("slow", [tensor])
        # An idle worker sleeps until a message wakes it; then this one sleeps in its model.
        eventually(lambda: worker.num_ctx_switches().voluntary > idle, "the worker wakes up")
        worker.send_signal(signal.SIGKILL)

        result = request.get_result(timeout=30).as_numpy("OUTPUT0")

    np.testing.assert_array_equal(result, SIX)


@pytest.mark.parametrize("detached", [False, True], ids=["same group", "own session"])
def test_a_killed_supervisor_leaves_no_process_no_memory_and_no_socket(
    tmp_path: Path, detached: bool
) -> None:
    code = f"""
        import subprocess
        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            def initialize(self, args):
                child = subprocess.Popen(["sleep", "1000"], start_new_session={detached})
                print("child", child.pid, flush=True)

            def execute(self, requests):
                return [pb_utils.InferenceResponse([]) for _ in requests]
    """
    models.python_model(tmp_path / "r", "parent", code, models.identity_config())
    models.python_identity(tmp_path / "r", "other")
    running = launch(tmp_path / "r")
    running.wait_until_up()
    child = int(running.wait_for_line(r"child (\d+)")[1])
    family = psutil.Process(running.process.pid).children(recursive=True)
    assert child in [process.pid for process in family]
    assert len(running.workers()) == 2

    running.process.send_signal(signal.SIGKILL)
    running.process.wait()

    _gone, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, f"still alive: {alive}"
    eventually(lambda: not list(running.runtime_directory.iterdir()), "the sentinel cleans up")
    assert not [name for name in os.listdir("/dev/shm") if "tritonpy" in name]
    running.runtime_directory.rmdir()
    running.stop()


def test_a_model_that_crashes_whenever_it_is_asked_harms_only_itself(tmp_path: Path) -> None:
    code = """
        import os

        class TritonPythonModel:
            def execute(self, requests):
                os.abort()
    """
    models.python_model(tmp_path, "crasher", code, models.identity_config())
    models.python_identity(tmp_path, "sane")
    with serving(tmp_path) as running, http.InferenceServerClient(running.http) as client:
        for _attempt in range(2):
            with pytest.raises(InferenceServerException, match="SIGABRT") as caught:
                infer(client, "crasher")
            assert ".py" not in str(caught.value), "a client sees where the model's code lies"
            np.testing.assert_array_equal(infer(client, "sane"), SIX)

        assert "Fatal Python error: Aborted" in running.log
