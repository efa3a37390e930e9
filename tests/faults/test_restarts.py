"""A killed worker comes back, and readiness tells the truth meanwhile: Triton's restart test."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc as grpcclient
from support.clients import eventually, get, pending
from support.culprits import ask, culprit, is_ready, loaded, refusal
from support.servers import RunningServer

#: Loads when it may: while a file is there.
PATIENT = """
    import os
    import time

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            while not os.path.exists({gate!r}):
                time.sleep(0.01)

        def execute(self, requests):
            names = [pb_utils.get_input_tensor_by_name(r, "IN").as_numpy() for r in requests]
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", n)]) for n in names]
"""

FINDS_NOTHING = """
    class TritonPythonModel:
        def initialize(self, args):
            open({gate!r}).close()

        def execute(self, requests):
            return [None for _ in requests]
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that lets the model load."""
    (tmp_path / "gate").touch()
    return tmp_path / "gate"


def readiness(server: RunningServer, model: str) -> tuple[bool, bool, bool, bool]:
    """What HTTP and gRPC say of the model, and of the server."""
    with grpcclient.InferenceServerClient(server.grpc) as client:
        return (
            is_ready(server, model),
            bool(client.is_model_ready(model)),
            get(server, "/v2/health/ready").status == 200,
            bool(client.is_server_ready()),
        )


def kill(server: RunningServer, model: str, count: int) -> None:
    """Kill so many of the model's workers, and wait until the system has noticed."""
    for worker in server.workers(model)[:count]:
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)


def test_a_model_is_not_ready_from_the_death_of_its_worker_until_it_is_loaded_again(
    server: RunningServer, repository: Path, gate: Path
) -> None:
    culprit(repository, "patient", PATIENT.format(gate=str(gate)))
    with loaded(server, "patient"), ThreadPoolExecutor(1) as pool:
        assert ask(server, "patient") == "nothing"
        (worker,) = server.workers("patient")
        for _ in range(2):
            assert readiness(server, "patient") == (True, True, True, True)
            gate.unlink()
            kill(server, "patient", 1)
            eventually(lambda: not is_ready(server, "patient"), "it is not ready")
            assert readiness(server, "patient") == (False, False, False, False)
            waiting = pool.submit(ask, server, "patient", "while it was away")
            eventually(lambda: pending(server, "patient") == 1, "the request waits")
            assert readiness(server, "patient") == (False, False, False, False)
            assert not waiting.done()

            gate.touch()

            assert waiting.result(60) == "while it was away"
            assert readiness(server, "patient") == (True, True, True, True)
        assert worker not in server.workers("patient")


def test_a_model_is_ready_as_long_as_one_of_its_instances_is(
    server: RunningServer, repository: Path, gate: Path
) -> None:
    three = "instance_group { count: 3 kind: KIND_CPU }"
    culprit(repository, "patient", PATIENT.format(gate=str(gate)), more=three)
    with loaded(server, "patient"):
        gate.unlink()
        kill(server, "patient", 2)
        for number in range(6):
            assert ask(server, "patient", f"number {number}") == f"number {number}"
        assert readiness(server, "patient") == (True, True, True, True)

        eventually(lambda: len(server.workers("patient")) == 3, "two more are starting")
        kill(server, "patient", 3)
        eventually(lambda: not is_ready(server, "patient"), "none is ready")
        gate.touch()

        eventually(lambda: is_ready(server, "patient"), "one is back")
        assert ask(server, "patient") == "nothing"
        eventually(lambda: len(server.workers("patient")) == 3, "all are back")


def test_requests_wait_for_tries_that_come_soon_and_are_told_why_there_is_none(
    server: RunningServer, repository: Path, gate: Path
) -> None:
    culprit(repository, "patient", FINDS_NOTHING.format(gate=str(gate)))
    with loaded(server, "patient"):
        gate.unlink()
        kill(server, "patient", 1)

        eventually(lambda: not is_ready(server, "patient"), "it is not ready")
        message = refusal(server, "patient", "nothing")
        assert message.startswith("503 model 'patient' version 1 has no instance that runs: ")
        assert "FileNotFoundError" in message
        gate.touch()
        eventually(lambda: is_ready(server, "patient"), "it has come back")
