"""The server is told to stop: in the middle of requests, of loads, more than once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from support import models
from support.servers import RunningServer, launch, serving
from tritonclient.utils import InferenceServerException

SIX = np.arange(6, dtype=np.float32)

#: Far longer than anything here should take; only a server that hangs needs it.
PATIENCE = 60.0

#: A model whose every request lasts until somebody opens the pipe beside it.
BLOCKED = """
    import os
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.pipe = os.path.join(args["model_repository"], "pipe")

        def execute(self, requests):
            print("executing", flush=True)
            open(self.pipe).close()
            outputs = [request.inputs()[0].as_numpy() for request in requests]
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", output)]) for output in outputs
            ]

        def finalize(self):
            print("finalized", flush=True)
"""

HANGS = """
    import threading

    class TritonPythonModel:
        def initialize(self, args):
            print("initializing", flush=True)
            threading.Event().wait()

        def execute(self, requests):
            return []
"""


def infer(server: RunningServer, model: str) -> np.ndarray | None:
    with http.InferenceServerClient(server.http, network_timeout=PATIENCE) as client:
        tensor = http.InferInput("IN", [6], "FP32")
        tensor.set_data_from_numpy(SIX)
        result: np.ndarray | None = client.infer(model, [tensor]).as_numpy("OUT")
        return result


def blocked_model(repository: Path, name: str = "blocked") -> Path:
    """The model, and the pipe that its requests wait for."""
    folder = models.python_model(repository, name, BLOCKED, models.identity_config())
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def takes_connections(server: RunningServer) -> bool:
    """Whether it does; if so, it must not call itself live."""
    try:
        with http.InferenceServerClient(server.http) as client:
            assert not client.is_server_live()
    except OSError:
        return False
    return True


def clean_up(server: RunningServer) -> None:
    """Whatever the test found, the server ends and has left nothing."""
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()
    server.stop()
    left = list(server.runtime_directory.iterdir())
    assert not left, f"the server left {left} behind"
    server.runtime_directory.rmdir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_finished_models_finalized_and_the_status_is_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    pipe = blocked_model(tmp_path)
    with serving(tmp_path) as server, ThreadPoolExecutor() as pool:
        request = pool.submit(infer, server, "blocked")
        server.wait_for_line("executing")
        server.process.send_signal(number)
        server.wait_for_line("Waiting for in-flight requests to complete: 1 found")
        assert not request.done()

        with pipe.open("w"):
            result = request.result(PATIENCE)

        np.testing.assert_array_equal(result, SIX)
        assert server.process.wait(PATIENCE) == 0
        server.wait_for_line("finalized")
        assert f"Signal ({number.value}) received." in server.log


def test_while_it_stops_the_server_is_not_ready_and_takes_no_connection(tmp_path: Path) -> None:
    pipe = blocked_model(tmp_path)
    with serving(tmp_path) as server, ThreadPoolExecutor() as pool:
        request = pool.submit(infer, server, "blocked")
        server.wait_for_line("executing")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("Waiting for in-flight requests")

        deadline = time.monotonic() + PATIENCE
        while takes_connections(server):  # for a moment after that line, and then never again
            assert time.monotonic() < deadline

        with pipe.open("w"):
            request.result(PATIENCE)
        assert server.process.wait(PATIENCE) == 0


def test_a_request_that_never_ends_is_cut_off_at_the_timeout_and_the_status_is_1(
    tmp_path: Path,
) -> None:
    blocked_model(tmp_path)
    server = launch(tmp_path, arguments=["--exit-timeout-secs=1"])
    try:
        server.wait_until_up()
        with ThreadPoolExecutor() as pool:
            request = pool.submit(infer, server, "blocked")
            server.wait_for_line("executing")
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)

            assert server.process.wait(PATIENCE) == 1

            took = time.monotonic() - began
            assert request.exception(PATIENCE) is not None
        assert took < 15, f"one second was allowed, and it took {took:.1f}"
        assert "Exit timeout expired. Exiting immediately." in server.log
        assert "did not finalize within" in server.log
    finally:
        clean_up(server)


def test_models_that_are_being_loaded_are_given_up_at_once(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        models.python_model(tmp_path, name, HANGS, models.identity_config())
    models.python_identity(tmp_path, "fine")
    server = launch(tmp_path, arguments=["--exit-timeout-secs=30"])
    try:
        server.wait_for_line("(?s)initializing.*initializing.*initializing")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(PATIENCE) == 0

        assert time.monotonic() - began < 15
        assert "Traceback" not in server.log
    finally:
        clean_up(server)


def test_a_client_that_waits_for_a_load_is_told_that_the_server_stops(tmp_path: Path) -> None:
    models.python_model(tmp_path, "hangs", HANGS, models.identity_config())
    server = launch(tmp_path, arguments=["--model-control-mode=explicit"])
    try:
        server.wait_until_up()

        def load() -> None:
            with http.InferenceServerClient(server.http, network_timeout=PATIENCE) as client:
                client.load_model("hangs")

        with ThreadPoolExecutor() as pool:
            loading = pool.submit(load)
            server.wait_for_line("initializing")
            server.process.send_signal(signal.SIGTERM)

            with pytest.raises(InferenceServerException, match="the server is stopping"):
                loading.result(PATIENCE)
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.log
    finally:
        clean_up(server)


def test_further_signals_change_nothing(tmp_path: Path) -> None:
    pipe = blocked_model(tmp_path)
    with serving(tmp_path) as server, ThreadPoolExecutor() as pool:
        request = pool.submit(infer, server, "blocked")
        server.wait_for_line("executing")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("Waiting for in-flight requests")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            server.process.send_signal(number)

        with pipe.open("w"):
            np.testing.assert_array_equal(request.result(PATIENCE), SIX)

        for _ in range(round(PATIENCE / 0.01)):  # to the very end
            try:
                server.process.wait(0.01)
                break
            except subprocess.TimeoutExpired:
                server.process.send_signal(signal.SIGINT)
        assert server.process.poll() == 0
        assert server.log.count("received.") == 1


def test_an_old_generation_that_still_drains_is_waited_for(tmp_path: Path) -> None:
    pipe = blocked_model(tmp_path)
    arguments = ["--model-control-mode=explicit", "--load-model=blocked"]
    with serving(tmp_path, arguments=arguments) as server, ThreadPoolExecutor() as pool:
        request = pool.submit(infer, server, "blocked")
        server.wait_for_line("executing")
        with http.InferenceServerClient(server.http) as client:
            client.load_model("blocked", config='{"backend": "python", "name": "blocked"}')
        assert len(server.workers("blocked")) == 2
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("Waiting for in-flight requests to complete: 1 found")

        with pipe.open("w"):
            np.testing.assert_array_equal(request.result(PATIENCE), SIX)

        assert server.process.wait(PATIENCE) == 0
        server.wait_for_line("(?s)finalized.*finalized")
