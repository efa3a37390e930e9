"""A model's calls are requests like those of clients: for the cache, queues, traffic, the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import callers, models
from support.callers import run
from support.clients import eventually, get, statistics
from support.ensembles import ensemble, step
from support.servers import RunningServer, serving

#: Adds to IN how often this process has run.
COUNTING = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        runs = 0

        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            self.runs += 1
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array + self.runs)])
"""
#: Answers the number of its version, and waits for a byte in the pipe before, if there is one.
VERSION = """
    import os
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self._version = float(args["model_version"])
            pipe = os.path.join(args["model_repository"], "pipe")
            self._pipe = os.open(pipe, os.O_RDWR) if os.path.exists(pipe) else None

        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            if self._pipe is not None:
                os.read(self._pipe, 1)
            array[:] = self._version
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])
"""
#: Adds up what the requests of a sequence bring.
SUM = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self._sums = {}

        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            id = request.correlation_id()
            if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
                self._sums[id] = 0
            self._sums[id] += array
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", self._sums[id])])
"""
MEBIBYTE = "np.zeros(1 << 18, np.float32)"


def parameter(key: str, value: object) -> str:
    text = (value if isinstance(value, str) else json.dumps(value)).replace('"', '\\"')
    return f'parameters {{ key: "{key}" value: {{ string_value: "{text}" }} }}'


def versions(repository: Path, name: str, code: str, more: str) -> None:
    """A model of two versions."""
    config = models.identity_config(more=f"version_policy {{ all {{ }} }} {more}")
    for version in (1, 2):
        models.python_model(repository, name, code, config, version)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    callers.scripted(path, "script")
    cached = models.identity_config(more="response_cache { enable: true }")
    models.python_model(path, "cached", COUNTING, cached)
    models.python_identity(path, "same")
    maps = ("same", {"IN": "IN"}, {"OUT": "x"}), ("cached", {"IN": "x"}, {"OUT": "OUT"})
    steps = [step(model, inputs, outputs) for model, inputs, outputs in maps]
    ensemble(path, "over_cached", ["IN FP32 -1"], ["OUT FP32 -1"], steps)
    models.python_model(
        path, "lazy", VERSION, models.identity_config(more=parameter("residency", "on-demand"))
    )
    versions(path, "split", VERSION, parameter("traffic", {"weights": {"1": 1, "2": 1}}))
    shadow = {"weights": {"1": 1}, "shadow": [{"version": "2"}]}
    versions(path, "shadowed", VERSION, parameter("traffic", shadow))
    queue = "dynamic_batching { default_queue_policy { max_queue_size: 1 } }"
    models.python_model(
        path, "queued", VERSION, models.identity_config(max_batch_size=1, more=queue)
    )
    os.mkfifo(path / "queued" / "pipe")
    patient = "sequence_batching { max_sequence_idle_microseconds: 600000000 }"
    models.python_model(path, "sums", SUM, models.identity_config(more=patient))
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    arguments = ["--cache-config=local,size=16777216", "--arena-byte-size=16777216"]
    with serving(repository, arguments=arguments) as running:
        yield running


def test_equal_calls_run_once(server: RunningServer) -> None:
    code = "found = [call('cached', value) for value in (1, 1, 2, 1)]"
    first, second, other, third = run(server, "script", code)
    assert first == second == third != other
    assert statistics(server, "cached")["inference_stats"]["cache_hit"]["count"] == 2


@pytest.mark.parametrize("model", ["cached", "over_cached"])
def test_what_a_model_writes_into_an_answer_is_not_in_the_cache(
    server: RunningServer, model: str
) -> None:
    code = f"""
def first(add):
    array = request("{model}", {MEBIBYTE}).exec().output_tensors()[0].as_numpy()
    array += add
    return float(array[-1])
found = [first(100), first(1000), first(10000)]
"""
    for _ in range(8):  # the arenas have room for sixteen: each comes back
        found = run(server, "script", code)
        assert found[1] - found[0] == 900
        assert found[2] - found[1] == 9000


def test_a_model_on_demand_is_loaded_by_a_call(server: RunningServer) -> None:
    assert get(server, "/v2/models/lazy/ready").status == 400
    assert run(server, "script", "found = call('lazy', 5)") == [[1.0]]
    assert get(server, "/v2/models/lazy/ready").status == 200


def test_calls_are_shared_among_versions_by_weight(server: RunningServer) -> None:
    code = "found = sorted(call('split', 0)[0][0] for _ in range(6))"
    assert run(server, "script", code) == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    code = "found = call('split', 0, model_version=2)"
    assert run(server, "script", code) == [[2.0]]


def test_a_shadow_gets_a_copy_of_a_large_call(server: RunningServer) -> None:
    code = f"found = call('shadowed', {MEBIBYTE})[0][:2]"
    for _ in range(20):  # what was lent to both comes back, else the arena would be full
        assert run(server, "script", code) == [1.0, 1.0]

    def shadows() -> Any:
        return get(server, "/v2/models/shadowed/traffic").json["shadow"][0]

    eventually(lambda: shadows()["success"] == 20, "all copies are answered")
    assert shadows()["fail"] == 0


def test_calls_that_find_the_queue_full_are_refused(
    server: RunningServer, repository: Path
) -> None:
    code = """
asked = [request("queued", np.zeros((1, 1), np.float32)).exec(decoupled=True) for _ in range(6)]
with open(PIPE, "wb") as pipe:
    pipe.write(b"xxx")
found = [told(next(one)) for one in asked]
""".replace("PIPE", repr(str(repository / "queued" / "pipe")))
    found = run(server, "script", code)
    refused = [one for one in found if isinstance(one, str)]
    # At most one runs, one is sent ahead and one is queued.
    assert 3 <= len(refused) <= 5
    for one in refused:
        assert one.startswith("Model queued - Error when running inference: ")
        assert one.endswith("Exceeds maximum queue size")


def test_the_requests_of_a_sequence_are_called_one_by_one(server: RunningServer) -> None:
    code = """
def add(value, flags, id=77):
    return call("sums", value, correlation_id=id, flags=flags)
start, end = (pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
              pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
found = [add(1, start), add(2, 0), add(3, end), add(10, start, "s"), add(20, end, "s"), add(4, 0)]
"""
    *sums, refused = run(server, "script", code)
    assert sums == [[[1.0]], [[3.0]], [[6.0]], [[10.0]], [[30.0]]]
    assert "must specify the START flag" in refused


def test_calls_wait_for_their_turn_and_not_for_ever(tmp_path: Path) -> None:
    resource = "rate_limiter { resources [ { name: 'R' count: 1 } ] }"
    needs = f"instance_group [ {{ kind: KIND_CPU {resource} }} ]"
    callers.scripted(tmp_path, "free")
    callers.scripted(tmp_path, "holder", needs)
    models.python_identity(tmp_path, "needs", more=needs)
    models.python_identity(tmp_path, "plain")
    arguments = ["--rate-limit=execution_count", "--rate-limit-resource=R:1"]
    with serving(tmp_path, arguments=arguments) as server:
        many = """
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda value: call("needs", value), range(8)))
"""
        assert run(server, "free", many) == [[[float(value)]] for value in range(8)]
        assert run(server, "holder", "found = call('plain', 3)") == [[3.0]]
        assert "would wait for ever" in run(server, "holder", "found = call('needs', 3)")
        assert run(server, "free", "found = call('needs', 3)") == [[3.0]]


def test_a_call_is_a_part_of_the_trace_that_its_model_names(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    callers.scripted(repository, "script")
    models.python_identity(repository, "plain")
    texts = (f"triton,file={tmp_path / 'traces.json'}", "rate=1", "level=TIMESTAMPS",
             "level=TENSORS")  # fmt: skip
    arguments = [f"--trace-config={text}" for text in texts]
    code = """
data = np.ones(1 << 15, np.float32)
answers = [request("plain", data, request_id="inner", trace=this.trace()).exec(),
           request("plain", data, request_id="other").exec()]
for answer in answers:
    answer.output_tensors()[0].as_numpy()[:] = 7
found = 0
"""
    with serving(repository, arguments=arguments) as server:
        run(server, "script", code, request_id="outer")
    entries = [
        entry
        for file in sorted(tmp_path.glob("traces.json*"))
        for entry in json.loads(file.read_text())
    ]
    found = {entry["model_name"]: entry for entry in entries if "model_name" in entry}
    outer, inner = found["script"], found["plain"]
    assert len(found) == len([entry for entry in entries if "model_name" in entry])
    assert (outer["request_id"], inner["request_id"]) == ("outer", "inner")
    assert inner["parent_id"] == outer["id"]
    data = [
        entry["tensor"]["data"]
        for entry in entries
        if entry["id"] == inner["id"] and entry.get("activity") == "TENSOR_BACKEND_OUTPUT"
    ]
    assert data == [",".join(["1"] * (1 << 15))], "what it was, not what became of it"
