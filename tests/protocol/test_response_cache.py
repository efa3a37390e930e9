"""Equal requests run once: the response cache, in memory and in Redis, as clients see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import (
    Array,
    eventually,
    get,
    metrics,
    post_json,
    statistics,
    unharmed,
)
from support.ensembles import ensemble, step
from support.redis import redis_server
from support.servers import RunningServer, launch, serving
from tritonclient.utils import shared_memory

#: Adds to IN how often this process has run, and the parameter `add`; `fail` is an error.
COUNTING = """
    import json
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        runs = 0

        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            self.runs += 1
            parameters = json.loads(request.parameters())
            if parameters.get("fail"):
                return pb_utils.InferenceResponse(error=pb_utils.TritonError("as you wish"))
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            out = (array + self.runs + parameters.get("add", 0)).astype(array.dtype)
            outputs = [pb_utils.Tensor("OUT", out), pb_utils.Tensor("TWICE", 2 * out)]
            wanted = request.requested_output_names()
            return pb_utils.InferenceResponse([o for o in outputs if o.name() in wanted])
"""
CONFIG = """
    backend: "python"
    max_batch_size: {batch}
    input {{ name: "IN" data_type: TYPE_FP32 dims: [ {dims} ] }}
    output {{ name: "OUT" data_type: TYPE_FP32 dims: [ {dims} ] label_filename: "labels.txt" }}
    output {{ name: "TWICE" data_type: TYPE_FP32 dims: [ {dims} ] }}
    {more}
"""
CACHE = "response_cache { enable: true }"
LOCAL = "--cache-config=local,size=8000000"
#: More than fits into a message, and more than is hashed and copied on the event loop.
LARGE = 200_000


def counting(repository: Path, name: str, more: str = CACHE, *, batch: int = 0) -> None:
    config = CONFIG.format(batch=batch, dims="-1" if not batch else "4", more=more)
    if not batch:
        config = config.replace("dims: [ -1 ]", "dims: [ -1, -1 ]")
    models.python_model(repository, name, COUNTING, config)
    models.write(repository / name / "labels.txt", "zero\none\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in ("basic", "shapes", "asked", "failing", "classes", "large", "region", "told"):
        counting(repository, name)
    counting(repository, "batched", f"{CACHE} dynamic_batching {{ }}", batch=8)
    counting(repository, "plain", "")
    counting(repository, "off", "response_cache { enable: false }")
    arguments = [LOCAL, "--allow-client-shm=true"]
    with serving(repository, arguments=arguments) as running, unharmed(running):
        yield running


def ask(
    server: RunningServer,
    model: str,
    array: Array,
    *,
    protocol: str = "http",
    outputs: tuple[str, ...] = ("OUT",),
    **more: Any,
) -> dict[str, Array]:
    library: Any = httpclient if protocol == "http" else grpcclient
    tensor = library.InferInput("IN", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    wanted = [library.InferRequestedOutput(name) for name in outputs]
    address = server.http if protocol == "http" else server.grpc
    with library.InferenceServerClient(address) as client:
        result = client.infer(model, [tensor], outputs=wanted, **more)
    return {name: result.as_numpy(name) for name in outputs}


def row(*values: float) -> Array:
    return np.array([values], np.float32)


def counts(server: RunningServer, model: str) -> dict[str, int]:
    found = statistics(server, model)
    parts = {name: found["inference_stats"][name]["count"] for name in found["inference_stats"]}
    return {"executions": found["execution_count"], **parts}


def test_equal_requests_run_once_over_either_protocol(server: RunningServer) -> None:
    answers = [
        ask(server, "basic", row(1, 2), protocol=protocol, request_id=str(number))["OUT"]
        for number, protocol in enumerate(("http", "grpc", "http", "grpc"))
    ]
    for answer in answers:
        np.testing.assert_array_equal(answer, row(2, 3))
    assert counts(server, "basic") == {
        "executions": 1,
        "success": 4,
        "fail": 0,
        "queue": 4,
        "compute_input": 1,
        "compute_infer": 1,
        "compute_output": 1,
        "cache_hit": 3,
        "cache_miss": 1,
    }
    series = '{model="basic",version="1"}'
    seen = metrics(server)
    assert seen[f"nv_cache_num_hits_per_model{series}"] == 3
    assert seen[f"nv_cache_num_misses_per_model{series}"] == 1
    assert f"nv_cache_hit_duration_per_model{series}" in seen
    assert f"nv_cache_miss_duration_per_model{series}" in seen
    assert seen["nv_cache_num_lookups"] == seen["nv_cache_num_hits"] + seen["nv_cache_num_misses"]
    assert 0 < seen["nv_cache_util"] < 1


def test_the_answer_carries_the_id_of_its_own_request(server: RunningServer) -> None:
    inputs = [{"name": "IN", "datatype": "FP32", "shape": [1, 1], "data": [7]}]
    answers = [
        post_json(server, "/v2/models/told/infer", {"id": name, "inputs": inputs}).json
        for name in ("one", "two")
    ]
    assert [answer["id"] for answer in answers] == ["one", "two"]
    assert answers[0]["outputs"] == answers[1]["outputs"]


def test_shapes_outputs_and_parameters_make_another_request(server: RunningServer) -> None:
    def runs() -> int:
        return counts(server, "shapes")["executions"]

    wide, tall = row(1, 2), row(1, 2).T
    for _ in range(2):
        assert ask(server, "shapes", wide)["OUT"].shape == (1, 2)
        assert ask(server, "shapes", tall)["OUT"].shape == (2, 1)
    assert runs() == 2
    for _ in range(2):
        ask(server, "shapes", wide, outputs=("TWICE",))
        ask(server, "shapes", wide, parameters={"add": 10})
    assert runs() == 4
    ask(server, "shapes", wide, priority=2, timeout=10_000_000)
    assert runs() == 4


def test_errors_are_not_kept(server: RunningServer) -> None:
    for _ in range(2):
        with pytest.raises(httpclient.InferenceServerException, match="as you wish"):
            ask(server, "failing", row(1), parameters={"fail": True})
    assert counts(server, "failing")["cache_miss"] == 2
    assert counts(server, "failing")["executions"] == 2


def test_classes_are_made_of_what_is_kept(server: RunningServer) -> None:
    def classes(count: int) -> list[bytes]:
        tensor = httpclient.InferInput("IN", [1, 2], "FP32")
        tensor.set_data_from_numpy(row(1, 2))
        wanted = [httpclient.InferRequestedOutput("OUT", class_count=count)]
        with httpclient.InferenceServerClient(server.http) as client:
            found = client.infer("classes", [tensor], outputs=wanted).as_numpy("OUT")
        return list(found.reshape(-1))

    assert classes(1) == [b"3.000000:1:one"]
    assert classes(2) == [b"3.000000:1:one", b"2.000000:0:zero"]
    np.testing.assert_array_equal(ask(server, "classes", row(1, 2))["OUT"], row(2, 3))
    assert counts(server, "classes")["cache_hit"] == 2


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_large_tensors_are_kept_too(server: RunningServer, protocol: str) -> None:
    seed = 1 if protocol == "http" else 2
    array = np.full((1, LARGE), seed, np.float32)
    first = ask(server, "large", array, protocol=protocol)["OUT"]
    before = counts(server, "large")["cache_hit"]

    def hit() -> bool:  # a large answer is kept a moment after it was given
        np.testing.assert_array_equal(ask(server, "large", array, protocol=protocol)["OUT"], first)
        return counts(server, "large")["cache_hit"] > before

    eventually(hit, "the large answer is kept")
    array[0, -1] += 1
    assert ask(server, "large", array, protocol=protocol)["OUT"][0, -1] != first[0, -1]


def test_tensors_in_a_clients_region_are_neither_looked_up_nor_kept(server: RunningServer) -> None:
    region = shared_memory.create_shared_memory_region("cached", "/tritonpy_test_cached", 16)
    try:
        with httpclient.InferenceServerClient(server.http) as client:
            client.register_system_shared_memory("cached", "/tritonpy_test_cached", 16)
            shared_memory.set_shared_memory_region(region, [row(1, 2)])
            tensor = httpclient.InferInput("IN", [1, 2], "FP32")
            tensor.set_shared_memory("cached", 8)
            inline = httpclient.InferInput("IN", [1, 2], "FP32")
            inline.set_data_from_numpy(row(1, 2))
            placed = httpclient.InferRequestedOutput("OUT")
            placed.set_shared_memory("cached", 8, 8)
            for _ in range(2):
                client.infer("region", [tensor])
                client.infer("region", [inline], outputs=[placed])
            client.unregister_system_shared_memory("cached")
    finally:
        shared_memory.destroy_shared_memory_region(region)
    seen = counts(server, "region")
    assert (seen["executions"], seen["cache_hit"], seen["cache_miss"]) == (4, 0, 0)


def test_rows_of_a_batch_are_kept_each_request_by_itself(server: RunningServer) -> None:
    arrays = [np.full((2, 4), number, np.float32) for number in range(3)]
    first = [ask(server, "batched", array)["OUT"] for array in arrays]
    again = [ask(server, "batched", array)["OUT"] for array in arrays]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert counts(server, "batched")["cache_hit"] == 3


@pytest.mark.parametrize("model", ["plain", "off"])
def test_a_model_without_the_cache_runs_every_time(server: RunningServer, model: str) -> None:
    for _ in range(2):
        ask(server, model, row(1))
    seen = counts(server, model)
    assert (seen["executions"], seen["cache_hit"], seen["cache_miss"]) == (2, 0, 0)
    assert not any("cache" in name and f'"{model}"' in name for name in metrics(server))


def test_the_table_of_options_says_that_there_is_a_cache(server: RunningServer) -> None:
    server.wait_for_line(r"\| cache_enabled +\| 1 ")


def test_an_ensemble_that_is_cached_runs_none_of_its_steps_again(tmp_path: Path) -> None:
    counting(tmp_path, "inner", "")
    only = step("inner", {"IN": "IN"}, {"OUT": "OUT"})
    for name, more in (("kept", CACHE), ("run", "")):
        folder = ensemble(tmp_path, name, ["IN FP32 -1,-1"], ["OUT FP32 -1,-1"], [only])
        with (folder / "config.pbtxt").open("a") as file:
            file.write(f"\n{more}\n")
    with serving(tmp_path, arguments=[LOCAL]) as running:
        for protocol in ("http", "grpc", "http"):
            answer = ask(running, "kept", row(1, 2), protocol=protocol)["OUT"]
            np.testing.assert_array_equal(answer, row(2, 3))
        found = counts(running, "kept")
        assert (found["success"], found["cache_hit"], found["cache_miss"]) == (3, 2, 1)
        assert counts(running, "inner")["executions"] == 1

        for _ in range(2):
            ask(running, "run", row(1, 2))
        found = counts(running, "run")
        assert (found["success"], found["cache_hit"], found["cache_miss"]) == (2, 0, 0)
        assert counts(running, "inner")["executions"] == 3


def test_a_reloaded_model_does_not_answer_from_before(tmp_path: Path) -> None:
    counting(tmp_path, "m")
    arguments = [LOCAL, "--model-control-mode=explicit", "--load-model=m"]
    with serving(tmp_path, arguments=arguments) as running:
        np.testing.assert_array_equal(ask(running, "m", row(1))["OUT"], row(2))
        np.testing.assert_array_equal(ask(running, "m", row(1))["OUT"], row(2))
        code = (tmp_path / "m" / "1" / "model.py").read_text()
        (tmp_path / "m" / "1" / "model.py").write_text(code.replace("runs = 0", "runs = 10"))

        assert post_json(running, "/v2/repository/models/m/load", {}).status == 200

        np.testing.assert_array_equal(ask(running, "m", row(1))["OUT"], row(12))


def test_the_least_used_answers_go_when_the_cache_is_full(tmp_path: Path) -> None:
    counting(tmp_path, "m")
    with serving(tmp_path, arguments=["--response-cache-byte-size=4096"]) as running:
        assert "--response-cache-byte-size is deprecated" in running.log
        for number in range(20):
            ask(running, "m", row(number))
        seen = metrics(running)
        assert seen["nv_cache_num_evictions"] > 10
        assert seen["nv_cache_num_entries"] < 10
        assert seen["nv_cache_util"] <= 1
        ask(running, "m", row(19))
        assert counts(running, "m")["cache_hit"] == 1
        ask(running, "m", row(0))
        assert counts(running, "m")["cache_hit"] == 1


def test_models_that_cannot_be_cached_are_refused_in_tritons_words(tmp_path: Path) -> None:
    decoupled = "model_transaction_policy { decoupled: true }"
    counting(tmp_path, "d", f"{CACHE} {decoupled}")
    with serving(tmp_path, arguments=[LOCAL]) as running:
        assert (
            "Response Cache does not currently support model d with 'decoupled' transaction "
            "policy. Please disable the response cache." in running.log
        )
        assert get(running, "/v2/models/d/ready").status != 200


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("local,size=0", "Failed to initialize LocalCache: config didn't contain a valid 'size'"),
        ("nope,size=1", "'nope', and the response caches are 'local' and 'redis'"),
        ("redis,host=localhost", "Failed to initialize RedisCache, didn't specify address"),
    ],
)
def test_wrong_settings_end_the_start(tmp_path: Path, argument: str, message: str) -> None:
    counting(tmp_path, "m")
    server = launch(tmp_path, arguments=[f"--cache-config={argument}"])
    assert server.process.wait(60) == 1
    server.stop()
    assert "error: creating server: " in server.log
    assert message in server.log
    assert list(server.runtime_directory.iterdir()) == []
    server.runtime_directory.rmdir()


def test_a_redis_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    counting(tmp_path, "m")
    nobody = str(tmp_path / "nobody.sock")
    arguments = [f"--cache-config=redis,host={nobody}", "--cache-config=redis,port=1"]
    server = launch(tmp_path, arguments=arguments)
    assert server.process.wait(60) == 1
    server.stop()
    assert "error: creating server: Internal - Failed to initialize RedisCache: " in server.log
    server.runtime_directory.rmdir()


def test_servers_share_answers_through_redis_and_do_without_it(tmp_path: Path) -> None:
    counting(tmp_path, "m")
    with redis_server("--requirepass", "secret") as redis:
        arguments = [f"--cache-config=redis,host={redis.path}", "--cache-config=redis,port=1"]
        environment = {"TRITONCACHE_REDIS_PASSWORD": "secret"}
        with serving(tmp_path, arguments=arguments, environment=environment) as running:

            def hit() -> bool:  # it is kept a moment after it was given
                ask(running, "m", row(1))
                return counts(running, "m")["cache_hit"] > 0

            eventually(hit, "Redis has the answer")
            kept = ask(running, "m", row(1))["OUT"]
            assert "secret" not in running.log
            assert "nv_cache_num_entries" not in metrics(running)
        with serving(tmp_path, arguments=arguments, environment=environment) as running:
            np.testing.assert_array_equal(ask(running, "m", row(1))["OUT"], kept)
            assert counts(running, "m")["cache_hit"] == 1

            redis.end()

            for number in range(5):
                ask(running, "m", row(2 + number), protocol="grpc")
            assert counts(running, "m")["fail"] == 0
            assert running.log.count("fails, and its models run without") == 1
