"""Requests of different lengths are padded, run together, and get what they would get alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
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


def ask(server: RunningServer, model: str, array: Array, library: Any = httpclient) -> list[Array]:
    """Send an array with a client of its own; returns the outputs."""
    tensor = library.InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    address = server.http if library is httpclient else server.grpc
    with library.InferenceServerClient(address) as client:
        result = client.infer(model, [tensor])
    return [result.as_numpy(name) for name in OUTPUTS]


def ask_all(server: RunningServer, model: str, arrays: Sequence[Array]) -> list[list[Array]]:
    """Send all arrays at the same time, over both protocols; returns the outputs of each."""

    def one(number: int) -> list[Array]:
        return ask(server, model, arrays[number], httpclient if number % 2 else grpcclient)

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

    with ThreadPoolExecutor(3) as pool:
        short = pool.submit(ask, server, "onnx", numbers(3, 2))
        long = pool.submit(ask, server, "onnx", numbers(6, 2))
        done, waiting = wait([short, long], return_when=FIRST_COMPLETED)
        # The first to come went alone when the other one did not fit; that one waits for a mate.
        assert len(done) == 1
        assert len(waiting) == 1
        mate = pool.submit(ask, server, "onnx", numbers(8 if long in waiting else 4, 2))

        assert short.result()[0].shape == (2, 3)
        assert long.result()[0].shape == (2, 6)
        assert mate.result()[0].shape[0] == 2
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
