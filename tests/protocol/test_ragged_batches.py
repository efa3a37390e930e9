"""Requests of different shapes run together where the model can take that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models, onnx_models
from support.clients import Array, statistics, unharmed
from support.servers import RunningServer, serving

#: The delay is ten minutes: whoever is answered was in a batch of four rows.
FOUR = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 600000000 }"

#: Tells of each request its inputs, and how many requests it was handed over with.
WITNESS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
                sums = np.full((1, 1), len(requests), np.float32)
                assert [tensor.name() for tensor in request.inputs()] == ["x"]
                responses.append(pb_utils.InferenceResponse([
                    pb_utils.Tensor("doubled", x * 2), pb_utils.Tensor("sums", sums)
                ]))
            return responses
"""
PLAIN_SUMS = onnx_models.RAGGED_SUMS.replace(" reshape { shape: [ ] }", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    onnx_models.save(onnx_models.ragged_sums(), repository / "onnx" / "1")
    torch_models = pytest.importorskip("support.torch_models", reason="PyTorch is not installed")
    torch_models.save(torch_models.RaggedSums(), repository / "torch" / "1")
    config = onnx_models.RAGGED_SUMS + FOUR
    models.write(repository / "onnx" / "config.pbtxt", 'backend: "onnxruntime"' + config)
    models.write(repository / "torch" / "config.pbtxt", 'backend: "pytorch"' + config)
    config = 'backend: "python"' + PLAIN_SUMS + FOUR
    models.python_model(repository, "python", WITNESS, config)
    with serving(repository) as running, unharmed(running):
        yield running


def ask_all(
    server: RunningServer, model: str, arrays: Sequence[Array]
) -> list[tuple[Array, Array]]:
    """Send all arrays at the same time, over both protocols; returns doubled and sums of each."""

    def one(number: int) -> tuple[Array, Array]:
        library: Any = httpclient if number % 2 else grpcclient
        address = server.http if number % 2 else server.grpc
        tensor = library.InferInput("x", list(arrays[number].shape), "FP32")
        tensor.set_data_from_numpy(arrays[number])
        with library.InferenceServerClient(address) as client:
            result = client.infer(model, [tensor])
        return result.as_numpy("doubled"), result.as_numpy("sums")

    with ThreadPoolExecutor(len(arrays)) as pool:
        return list(pool.map(one, range(len(arrays))))


ARRAYS = [np.arange(1, length + 1, dtype=np.float32)[None] for length in (3, 1, 5, 2)]


@pytest.mark.parametrize("model", ["onnx", "torch"])
def test_requests_of_different_lengths_share_an_execution(
    server: RunningServer, model: str
) -> None:
    results = ask_all(server, model, ARRAYS)

    for array, (doubled, sums) in zip(ARRAYS, results, strict=True):
        np.testing.assert_array_equal(doubled, array * 2)
        np.testing.assert_array_equal(sums, [[array.sum()]])
    stats = statistics(server, model)
    assert stats["execution_count"] == 1
    assert [each["batch_size"] for each in stats["batch_stats"]] == [4]


def test_a_python_model_sees_the_requests_apart_and_nothing_generated(
    server: RunningServer,
) -> None:
    results = ask_all(server, "python", ARRAYS)

    for array, (doubled, together) in zip(ARRAYS, results, strict=True):
        np.testing.assert_array_equal(doubled, array * 2)
        assert together.item() == 4
    assert statistics(server, "python")["execution_count"] == 1
