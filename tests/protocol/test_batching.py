"""Requests that come together run together, and each gets its own rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import Array, metrics, statistics, unharmed
from support.servers import RunningServer, serving

#: Doubles IN, and tells of each row how many rows were executed with it.
DOUBLE = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            inputs = [pb_utils.get_input_tensor_by_name(r, "IN").as_numpy() for r in requests]
            rows = sum(len(array) for array in inputs)
            return [
                pb_utils.InferenceResponse([
                    pb_utils.Tensor("OUT", array * 2),
                    pb_utils.Tensor("ROWS", np.full((len(array), 1), rows, np.int32)),
                ])
                for array in inputs
            ]
"""
CONFIG = """
    backend: "python"
    max_batch_size: 8
    input {{ name: "IN" data_type: TYPE_INT32 dims: {dims} }}
    output [
      {{ name: "OUT" data_type: TYPE_INT32 dims: {dims} }},
      {{ name: "ROWS" data_type: TYPE_INT32 dims: 1 }}
    ]
    {batching}
"""
FOREVER = "max_queue_delay_microseconds: 600000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name, dims, batching in (
        ("patient", 4, "dynamic_batching { max_queue_delay_microseconds: 100000 }"),
        ("full", 4, f"dynamic_batching {{ {FOREVER} }}"),
        ("preferred", 4, f"dynamic_batching {{ preferred_batch_size: [ 4 ] {FOREVER} }}"),
        ("shapes", -1, "dynamic_batching { max_queue_delay_microseconds: 100000 }"),
        ("single", 4, ""),
    ):
        config = CONFIG.format(dims=dims, batching=batching)
        models.python_model(repository, name, DOUBLE, config)
    with serving(repository) as running, unharmed(running):
        yield running


def rows_of(seed: int, rows: int, columns: int = 4) -> Array:
    return np.arange(rows * columns, dtype=np.int32).reshape(rows, columns) + seed * 1000


def ask_all(
    server: RunningServer, model: str, arrays: Sequence[Array]
) -> list[tuple[Array, Array]]:
    """Send all arrays at the same time, over both protocols; returns OUT and ROWS of each."""

    def one(number: int) -> tuple[Array, Array]:
        library: Any = httpclient if number % 2 else grpcclient
        address = server.http if number % 2 else server.grpc
        array = arrays[number]
        tensor = library.InferInput("IN", list(array.shape), "INT32")
        tensor.set_data_from_numpy(array)
        with library.InferenceServerClient(address) as client:
            result = client.infer(model, [tensor])
        return result.as_numpy("OUT"), result.as_numpy("ROWS")

    with ThreadPoolExecutor(len(arrays)) as pool:
        return list(pool.map(one, range(len(arrays))))


def test_many_small_requests_share_executions(server: RunningServer) -> None:
    arrays = [rows_of(seed, 1 + seed % 3) for seed in range(40)]

    results = ask_all(server, "patient", arrays)

    for array, (out, rows) in zip(arrays, results, strict=True):
        np.testing.assert_array_equal(out, array * 2)
        assert rows.max() <= 8
    stats = statistics(server, "patient")
    assert stats["inference_count"] == sum(len(array) for array in arrays)
    assert stats["execution_count"] < len(arrays)
    assert stats["inference_stats"]["success"]["count"] == len(arrays)
    assert (
        sum(batch["batch_size"] * batch["compute_infer"]["count"] for batch in stats["batch_stats"])
        == stats["inference_count"]
    )
    series = '{model="patient",version="1"}'
    counters = metrics(server)
    assert counters[f"nv_inference_exec_count{series}"] == stats["execution_count"]
    assert counters[f"nv_inference_count{series}"] == stats["inference_count"]


@pytest.mark.parametrize(("model", "size"), [("full", 8), ("preferred", 4)])
def test_a_batch_goes_when_it_has_the_size_that_is_waited_for(
    server: RunningServer, model: str, size: int
) -> None:
    # The delay is ten minutes: whoever is answered was in a batch of just that size.
    results = ask_all(server, model, [rows_of(seed, 1) for seed in range(2 * size)])
    assert [rows.item() for _, rows in results] == [size] * (2 * size)
    for seed, (out, _) in enumerate(results):
        np.testing.assert_array_equal(out, rows_of(seed, 1) * 2)


def test_requests_of_different_shapes_do_not_share_a_batch(server: RunningServer) -> None:
    arrays = [rows_of(seed, 2, columns=1 + seed % 3) for seed in range(18)]
    for array, (out, rows) in zip(arrays, ask_all(server, "shapes", arrays), strict=True):
        np.testing.assert_array_equal(out, array * 2)
        assert rows.max() <= 8


def test_without_dynamic_batching_every_request_runs_alone(server: RunningServer) -> None:
    results = ask_all(server, "single", [rows_of(seed, 1 + seed % 2) for seed in range(12)])
    assert [rows[0, 0] for _, rows in results] == [1 + seed % 2 for seed in range(12)]
    assert statistics(server, "single")["execution_count"] == 12


def test_a_bad_request_in_a_batch_fails_alone(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repository = tmp_path_factory.mktemp("other")
    config = models.identity_config(
        "TYPE_STRING",
        max_batch_size=4,
        dims=[1],
        more=f"dynamic_batching {{ {FOREVER} }}",
    )
    models.python_model(repository, "strings", models.IDENTITY_PY, config)

    def one(number: int) -> Any:
        tensor = httpclient.InferInput("IN", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[b"%d" % number]], np.object_))
        if number == 2:
            tensor._raw_data = b"\xff\0\0\0x"  # it claims more than it has
        with httpclient.InferenceServerClient(running.http) as client:
            try:
                return client.infer("strings", [tensor]).as_numpy("OUT").item()
            except Exception as error:
                return str(error)

    with serving(repository) as running, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(4)))
    assert results[:2] + results[3:] == [b"0", b"1", b"3"]
    assert "incomplete string data for inference input 'IN'" in results[2]
