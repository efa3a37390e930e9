"""The server starts: with models that take for ever, that fail, and where it cannot listen."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from support import models
from support.servers import RunningServer, launch

PATIENCE = 60.0

HANGS = """
    import os

    class TritonPythonModel:
        def initialize(self, args):
            print("initializing", flush=True)
            open(os.path.join(args["model_repository"], "pipe")).close()

        def execute(self, requests):
            return []
"""


@contextmanager
def starting(*repositories: Path, arguments: tuple[str, ...] = ()) -> Generator[RunningServer]:
    """A server that may never be up; it is ended, and has left nothing."""
    server = launch(*repositories, arguments=arguments)
    try:
        yield server
    finally:
        server.stop()
        left = list(server.runtime_directory.iterdir())
        assert not left, f"the server left {left} behind"
        server.runtime_directory.rmdir()


def test_a_model_that_takes_for_ever_delays_neither_liveness_nor_other_models(
    tmp_path: Path,
) -> None:
    folder = models.python_model(tmp_path, "slow", HANGS, models.identity_config())
    os.mkfifo(folder / "pipe")
    models.python_identity(tmp_path, "quick")
    with starting(tmp_path) as server:
        server.ports["http"] = int(server.wait_for_line(r"Started HTTPService at \S+:(\d+)")[1])
        server.wait_for_line("initializing")
        server.wait_for_line("successfully loaded 'quick'")
        with http.InferenceServerClient(server.http) as client:
            assert client.is_server_live()
            assert not client.is_server_ready()
            assert client.is_model_ready("quick")
            assert not client.is_model_ready("slow", "1")
            index = {line["name"]: line["state"] for line in client.get_model_repository_index()}
            assert index == {"quick": "READY", "slow": "LOADING"}
            tensor = http.InferInput("IN", [2], "FP32")
            tensor.set_data_from_numpy(np.ones(2, np.float32))
            result = client.infer("quick", [tensor]).as_numpy("OUT")
            np.testing.assert_array_equal(result, np.ones(2, np.float32))

            with (folder / "pipe").open("w"):
                server.wait_for_line("successfully loaded 'slow'")
            server.wait_for_line(r"\| exit_timeout")
            assert client.is_server_ready()


def test_a_worker_that_dies_while_it_loads_is_told_with_its_last_words(tmp_path: Path) -> None:
    code = """
        import os, sys

        class TritonPythonModel:
            def initialize(self, args):
                print("cannot find libsecret.so.7", file=sys.stderr)
                os.abort()

            def execute(self, requests):
                return []
    """
    models.python_model(tmp_path, "dies", code, models.identity_config())
    models.python_identity(tmp_path, "fine")
    with starting(tmp_path) as server:
        server.wait_until_up()
        with http.InferenceServerClient(server.http) as client:
            (dies, fine) = client.get_model_repository_index()

    assert (fine["name"], fine["state"]) == ("fine", "READY")
    assert dies["state"] == "UNAVAILABLE"
    assert "was killed by signal SIGABRT" in dies["reason"]
    assert dies["reason"].endswith("cannot find libsecret.so.7 | Fatal Python error: Aborted")
    assert "cannot find libsecret.so.7" in server.log


def test_a_model_that_fails_ends_the_server_when_that_is_wanted(tmp_path: Path) -> None:
    models.python_model(tmp_path, "broken", "this is no Python", models.identity_config())
    models.python_identity(tmp_path, "fine")
    with starting(tmp_path, arguments=("--exit-on-error=true",)) as server:
        assert server.process.wait(PATIENCE) == 1
        server.wait_for_line("error: creating server: Internal - failed to load all models")
        assert "| broken" in server.log


@pytest.mark.parametrize("service", ["http", "grpc", "metrics"])
def test_a_port_that_is_taken_is_one_clear_sentence_and_status_1(
    tmp_path: Path, service: str
) -> None:
    models.python_identity(tmp_path, "fine")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = ("--metrics-address=127.0.0.1",) if service == "metrics" else ()
        arguments = (f"--{service}-port={port}", *address)
        with starting(tmp_path, arguments=arguments) as server:
            assert server.process.wait(PATIENCE) == 1
            line = server.wait_for_line("error: creating server: .*")[0]

    assert str(port) in line
    assert "Traceback" not in server.log
    assert "loading: fine:1" not in server.log
