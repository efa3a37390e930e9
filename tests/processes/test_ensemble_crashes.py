"""A worker that dies in the middle of an ensemble: the others read on, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as grpc
from support.clients import eventually
from support.ensembles import add_one, ensemble, step
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

Floats = npt.NDArray[np.float32]

#: Says that it has begun, waits for a byte in its pipe, and only then looks at its input.
WAITS = """
    import os
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self._folder = args["model_repository"]

        def execute(self, requests):
            open(os.path.join(self._folder, "begun"), "w").close()
            with open(os.path.join(self._folder, "pipe"), "rb") as pipe:
                pipe.read(1)
            (request,) = requests
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array + 1)])]
"""
MEBIBYTE = np.arange(1 << 18, dtype=np.float32)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    add_one(tmp_path, "first")
    add_one(tmp_path, "waits", WAITS)
    os.mkfifo(tmp_path / "waits" / "pipe")
    steps = [step("first", {"IN": "IN"}, {"OUT": "x"}), step("waits", {"IN": "x"}, {"OUT": "OUT"})]
    ensemble(tmp_path, "pair", ["IN FP32 -1"], ["OUT FP32 -1"], steps)
    with serving(tmp_path, arguments=["--arena-byte-size=4194304"]) as running:
        yield running


def infer(server: RunningServer) -> Floats:
    tensor = grpc.InferInput("IN", list(MEBIBYTE.shape), "FP32")
    tensor.set_data_from_numpy(MEBIBYTE)
    with grpc.InferenceServerClient(server.grpc) as client:
        found: Floats | None = client.infer("pair", [tensor]).as_numpy("OUT")
    assert found is not None
    return found


def let_go(folder: Path) -> None:
    with (folder / "waits" / "pipe").open("wb") as pipe:
        pipe.write(b"x")
    (folder / "waits" / "begun").unlink()


def kill(server: RunningServer, model: str) -> None:
    (worker,) = server.workers(model)
    worker.kill()
    eventually(
        lambda: [w.pid for w in server.workers(model)] not in ([], [worker.pid]), "a new worker"
    )


def test_outputs_of_a_dead_worker_are_read_to_the_end(
    server: RunningServer, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):  # the arena has room for three: what is read is given back
            answer = pool.submit(infer, server)
            eventually((tmp_path / "waits" / "begun").exists, "the second step begins")
            kill(server, "first")
            let_go(tmp_path)
            np.testing.assert_array_equal(answer.result(30), MEBIBYTE + 2)


def test_a_step_that_dies_is_told_and_the_next_request_runs(
    server: RunningServer, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(4):
            answer = pool.submit(infer, server)
            eventually((tmp_path / "waits" / "begun").exists, "the second step begins")
            kill(server, "waits")
            (tmp_path / "waits" / "begun").unlink()
            with pytest.raises(InferenceServerException, match=r"in ensemble 'pair', .*SIGKILL"):
                answer.result(30)
        answer = pool.submit(infer, server)
        eventually((tmp_path / "waits" / "begun").exists, "the second step begins")
        let_go(tmp_path)
        np.testing.assert_array_equal(answer.result(30), MEBIBYTE + 2)
