"""Requests of different lengths are padded, run together, and get what they would get alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models, onnx_models
from support.clients import Array, post_json, statistics, unharmed
from support.servers import RunningServer, serving

#: The delay is ten minutes: whoever is answered was in a batch of four rows.
FOUR = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 600000000 }"
OUTPUTS = ("centred", "mean", "lengths")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    torch_models = pytest.importorskip("support.torch_models", reason="PyTorch is not installed")
    repository = tmp_path_factory.mktemp("repository")
    onnx_models.save(onnx_models.masked_mean(), repository / "onnx" / "1")
    torch_models.save(torch_models.MaskedMean(), repository / "pytorch" / "1")
    for model, backend in (("onnx", "onnxruntime"), ("pytorch", "pytorch")):
        config = f'backend: "{backend}"' + onnx_models.MASKED_MEAN + FOUR
        models.write(repository / model / "config.pbtxt", config)
    with serving(repository) as running, unharmed(running):
        yield running


def ask_all(server: RunningServer, model: str, arrays: Sequence[Array]) -> list[list[Array]]:
    """Send all arrays at the same time, over both protocols; returns the outputs of each."""

    def one(number: int) -> list[Array]:
        library: Any = httpclient if number % 2 else grpcclient
        address = server.http if number % 2 else server.grpc
        tensor = library.InferInput("x", list(arrays[number].shape), "FP32")
        tensor.set_data_from_numpy(arrays[number])
        with library.InferenceServerClient(address) as client:
            result = client.infer(model, [tensor])
        return [result.as_numpy(name) for name in OUTPUTS]

    with ThreadPoolExecutor(len(arrays)) as pool:
        return list(pool.map(one, range(len(arrays))))


def numbers(length: int, rows: int = 1) -> Array:
    return np.arange(rows * length, dtype=np.float32).reshape(rows, length) + length


@pytest.mark.parametrize("model", ["onnx", "pytorch"])
def test_requests_of_one_bucket_share_an_execution(server: RunningServer, model: str) -> None:
    arrays = [numbers(5), numbers(8), numbers(6), numbers(7)]

    results = ask_all(server, model, arrays)

    for array, (centred, mean, lengths) in zip(arrays, results, strict=True):
        np.testing.assert_allclose(mean, array.mean(1, keepdims=True))
        np.testing.assert_allclose(centred, array - array.mean(1, keepdims=True))
        assert centred.shape == array.shape
        assert lengths.tolist() == [[array.shape[1]]]
    stats = statistics(server, model)
    assert [each["batch_size"] for each in stats["batch_stats"]] == [4]
    assert stats["execution_count"] == 1


def test_rows_of_the_smallest_bucket_are_no_longer_than_it(server: RunningServer) -> None:
    before = statistics(server, "onnx")["execution_count"]

    results = ask_all(server, "onnx", [numbers(1, 2), numbers(4, 2)])

    assert [centred.shape for centred, _, _ in results] == [(2, 1), (2, 4)]
    assert [lengths.tolist() for _, _, lengths in results] == [[[1], [1]], [[4], [4]]]
    assert statistics(server, "onnx")["execution_count"] == before + 1


def test_requests_of_two_buckets_do_not_share_an_execution(server: RunningServer) -> None:
    before = statistics(server, "onnx")["execution_count"]

    results = ask_all(server, "onnx", [numbers(3, 2), numbers(6, 2), numbers(4, 2), numbers(8, 2)])

    assert [centred.shape[1] for centred, _, _ in results] == [3, 6, 4, 8]
    assert statistics(server, "onnx")["execution_count"] == before + 2


def test_what_is_too_long_is_refused_at_the_door(server: RunningServer) -> None:
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 9], "data": [0] * 9}

    answer = post_json(server, "/v2/models/onnx/infer", {"inputs": [entry]})

    assert answer.status == 400
    assert answer.error == (
        "[request id: <id_unknown>] input 'x' for model 'onnx' has length 9 along its axis 'n', "
        "expected at most 8, the largest bucket of its padding"
    )


def test_a_generated_input_is_none_of_the_models_inputs_to_clients(server: RunningServer) -> None:
    with httpclient.InferenceServerClient(server.http) as client:
        metadata = client.get_model_metadata("onnx")
    assert [each["name"] for each in metadata["inputs"]] == ["x"]
    assert json.dumps(metadata).count("mask") == 0
