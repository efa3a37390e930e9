"""Ensembles over the wire: the flow of tensors, what is copied, what is counted, what is loaded."""

from __future__ import annotations

import json
import queue
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
import tritonclient.utils.shared_memory as shm
from support import models
from support.clients import copied, eventually, get, metrics, post_json
from support.ensembles import add_one, ensemble, step
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

from tritonpy.supervisor.http.lean import MOST_BODY_BYTES

Floats = npt.NDArray[np.float32]
#: Small enough that spans which are not given back fill the arenas soon.
ARENA = 32 << 20
LARGE = 16 << 20

SEEN = """
    import json
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            given = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0].decode()
            told = [request.request_id(), request.correlation_id(), request.flags()]
            text = f"{given}{json.dumps(told)};"
            tensor = pb_utils.Tensor("OUT", np.array([text], np.object_))
            begins = json.loads(request.parameters()).get("begins")
            parameters = {"sequence_id": begins, "sequence_start": True} if begins else {}
            return pb_utils.InferenceResponse([tensor], parameters=parameters)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    for name in "abc":
        add_one(path, name)
    chain = [step(m, {"IN": i}, {"OUT": o}) for m, i, o in
             (("a", "IN", "x"), ("b", "x", "y"), ("c", "y", "OUT"))]  # fmt: skip
    ensemble(path, "chain", ["IN FP32 -1"], ["OUT FP32 -1"], chain)
    fan = [step("a", {"IN": "IN"}, {"OUT": "x"}), step("b", {"IN": "x"}, {"OUT": "B"}),
           step("c", {"IN": "x"}, {"OUT": "C"})]  # fmt: skip
    ensemble(path, "fan", ["IN FP32 -1"], ["B FP32 -1", "C FP32 -1"], fan)
    both = [step("a", {"IN": "IN"}, {"OUT": "A"}), step("b", {"IN": "IN"}, {"OUT": "B"})]
    ensemble(path, "both", ["IN FP32 -1"], ["A FP32 -1", "B FP32 -1"], both)
    nested = [step("fan", {"IN": "IN"}, {"B": "m"}), step("chain", {"IN": "m"}, {"OUT": "OUT"})]
    ensemble(path, "nested", ["IN FP32 -1"], ["OUT FP32 -1"], nested)
    models.square(path, "square")
    models.identity(path, "same", "TYPE_INT32", dims=(1,))
    many = [step("square", {"IN": "IN"}, {"OUT": "m"}),
            step("same", {"INPUT0": "m"}, {"OUTPUT0": "OUT"})]  # fmt: skip
    ensemble(path, "many", ["IN INT32 1"], ["OUT INT32 1"], many)
    ensemble(path, "few", ["IN INT32 1"], ["OUT INT32 1"], many, "max_inflight_requests: 1")
    text = models.identity_config("TYPE_STRING", dims=(1,))
    models.python_model(path, "seen", SEEN, text)
    twice = [step("seen", {"IN": "IN"}, {"OUT": "m"}), step("seen", {"IN": "m"}, {"OUT": "OUT"})]
    ensemble(path, "seen_twice", ["IN STRING 1"], ["OUT STRING 1"], twice)
    return path


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    arguments = [f"--arena-byte-size={ARENA}"]
    with serving(repository, arguments=arguments) as running:
        yield running


def infer(
    server: RunningServer, model: str, data: Floats, *outputs: str, over: Any = http
) -> dict[str, Floats]:
    tensor = over.InferInput("IN", list(data.shape), "FP32")
    tensor.set_data_from_numpy(data)
    address = server.http if over is http else server.grpc
    with over.InferenceServerClient(address) as client:
        wanted = [over.InferRequestedOutput(name) for name in outputs]
        result = client.infer(model, [tensor], outputs=wanted or None)
        response = result.get_response()
        told = response["outputs"] if over is http else response.outputs
        names = [one["name"] if over is http else one.name for one in told]
        return {name: result.as_numpy(name) for name in names}


SIX = np.arange(6, dtype=np.float32)
BIG = np.arange(LARGE // 4, dtype=np.float32)


@pytest.mark.parametrize("over", [http, grpc])
@pytest.mark.parametrize("data", [SIX, BIG], ids=["small", "large"])
def test_tensors_go_from_step_to_step(server: RunningServer, over: Any, data: Floats) -> None:
    np.testing.assert_array_equal(infer(server, "chain", data, over=over)["OUT"], data + 3)


@pytest.mark.parametrize("data", [SIX, BIG[: 1 << 20]], ids=["small", "large"])
def test_a_tensor_with_two_readers_is_scribbled_on_by_neither(
    server: RunningServer, data: Floats
) -> None:
    found = infer(server, "fan", data)
    np.testing.assert_array_equal(found["B"], data + 2)
    np.testing.assert_array_equal(found["C"], data + 2)
    found = infer(server, "both", data)
    np.testing.assert_array_equal(found["A"], data + 1)
    np.testing.assert_array_equal(found["B"], data + 1)
    np.testing.assert_array_equal(infer(server, "nested", data)["OUT"], data + 5)


def test_steps_for_outputs_that_nobody_wants_do_not_run(server: RunningServer) -> None:
    before = executions(server, "c")
    assert list(infer(server, "fan", SIX, "B")) == ["B"]
    assert executions(server, "c") == before
    infer(server, "fan", SIX, "C")
    assert executions(server, "c") == before + 1


def test_a_large_tensor_is_copied_nowhere_on_its_way(server: RunningServer) -> None:
    before = copied(server)
    infer(server, "chain", BIG)
    after = copied(server)
    assert after[0] - before[0] <= MOST_BODY_BYTES  # what came together with the head
    assert after[1] == before[1]


def test_what_steps_have_read_is_given_back(server: RunningServer) -> None:
    data = BIG[: LARGE // 8]  # 8 MiB: the arenas hold three of them
    for _ in range(8):
        infer(server, "chain", data)
        infer(server, "fan", data)
        infer(server, "nested", data, over=grpc)


def test_inputs_and_outputs_may_lie_in_clients_regions(server: RunningServer) -> None:
    data = BIG[: 1 << 18]
    handles = [shm.create_shared_memory_region(f"r{n}", f"/ensemble{n}", data.nbytes) for n in "io"]
    try:
        shm.set_shared_memory_region(handles[0], [data])
        with http.InferenceServerClient(server.http) as client:
            for name in "io":
                client.register_system_shared_memory(f"r{name}", f"/ensemble{name}", data.nbytes)
            tensor = http.InferInput("IN", list(data.shape), "FP32")
            tensor.set_shared_memory("ri", data.nbytes)
            wanted = http.InferRequestedOutput("OUT")
            wanted.set_shared_memory("ro", data.nbytes)
            before = copied(server)
            client.infer("chain", [tensor], outputs=[wanted])
            found = shm.get_contents_as_numpy(handles[1], np.float32, data.shape)
            np.testing.assert_array_equal(found, data + 3)
            kept = shm.get_contents_as_numpy(handles[0], np.float32, data.shape)
            np.testing.assert_array_equal(kept, data)
            assert copied(server) == before
            client.unregister_system_shared_memory()
    finally:
        for handle in handles:
            shm.destroy_shared_memory_region(handle)


# --- decoupled ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["many", "few"])
def test_every_response_of_a_decoupled_step_is_one_of_the_ensemble(
    server: RunningServer, model: str
) -> None:
    responses: queue.Queue[Any] = queue.Queue()
    tensor = grpc.InferInput("IN", [1], "INT32")
    tensor.set_data_from_numpy(np.array([5], np.int32))
    with grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: responses.put((result, error)))
        client.async_stream_infer(model, [tensor], enable_empty_final_response=True)
        values: list[int] = []
        final = False
        while not final:
            result, error = responses.get(timeout=20)
            assert error is None
            response = result.get_response()
            values += [int(result.as_numpy(one.name)[0]) for one in response.outputs]
            final = response.parameters["triton_final_response"].bool_param
    assert values == [5] * 5
    with (
        grpc.InferenceServerClient(server.grpc) as client,
        pytest.raises(InferenceServerException, match="decoupled"),
    ):
        client.infer(model, [tensor])
    assert get(server, f"/v2/models/{model}/config").json["model_transaction_policy"] == {
        "decoupled": True
    }


def test_generate_stream_goes_through_an_ensemble(server: RunningServer) -> None:
    body = json.dumps({"IN": [3]}).encode()
    address = f"http://{server.http}/v2/models/many/generate_stream"
    with urllib.request.urlopen(urllib.request.Request(address, body), timeout=30) as reply:
        events = [line for line in reply.read().decode().splitlines() if line]
    assert [json.loads(event.removeprefix("data: "))["OUT"] for event in events] == [3, 3, 3]


# --- what a step is told --------------------------------------------------------------------------


def seen(server: RunningServer, **parameters: Any) -> str:
    tensor = {"name": "IN", "datatype": "BYTES", "shape": [1], "data": [""]}
    document = {"id": "r7", "inputs": [tensor], "parameters": parameters}
    answer = post_json(server, "/v2/models/seen_twice/infer", document)
    text = answer.json["outputs"][0]["data"][0]
    assert isinstance(text, str)
    return text


def test_steps_get_the_id_and_the_sequence_of_the_request(server: RunningServer) -> None:
    assert seen(server, sequence_id=5, sequence_end=True) == '["r7", 5, 2];["r7", 5, 2];'


def test_a_step_may_begin_a_sequence_for_those_behind_it(server: RunningServer) -> None:
    assert seen(server, begins=42) == '["r7", 0, 0];["r7", 42, 1];'


# --- counting -------------------------------------------------------------------------------------


def executions(server: RunningServer, model: str) -> int:
    statistics = get(server, f"/v2/models/{model}/stats").json["model_stats"][0]
    count = statistics["execution_count"]
    assert isinstance(count, int)
    return count


def test_the_computing_of_an_ensemble_is_that_of_its_steps(tmp_path: Path) -> None:
    for name in "ab":
        add_one(tmp_path, name)
    pair = [step("a", {"IN": "IN"}, {"OUT": "x"}), step("b", {"IN": "x"}, {"OUT": "OUT"})]
    ensemble(tmp_path, "pair", ["IN FP32 -1"], ["OUT FP32 -1"], pair)
    trace = tmp_path / "trace.json"
    arguments = [
        f"--trace-config=triton,file={trace}",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
    ]
    with serving(tmp_path, arguments=arguments) as server:
        infer(server, "pair", SIX)
        eventually(lambda: executions(server, "pair") == 1, "the request is counted")
        stats = {
            name: get(server, f"/v2/models/{name}/stats").json["model_stats"][0]["inference_stats"]
            for name in ("pair", "a", "b")
        }
        for part in ("compute_input", "compute_infer", "compute_output"):
            assert stats["pair"][part]["count"] == 1
            assert stats["pair"][part]["ns"] == stats["a"][part]["ns"] + stats["b"][part]["ns"]
        assert metrics(server)['nv_inference_pending_request_count{model="pair",version="1"}'] == 0
        assert get(server, "/v2/models/pair").json["platform"] == "ensemble"
    named = [entry for entry in json.loads(trace.read_text()) if "model_name" in entry]
    (whole,) = [entry for entry in named if entry["model_name"] == "pair"]
    assert "parent_id" not in whole
    parts = {entry["model_name"]: entry.get("parent_id") for entry in named if entry is not whole}
    assert parts == {"a": whole["id"], "b": whole["id"]}


# --- loading --------------------------------------------------------------------------------------


def states(server: RunningServer) -> dict[str, str]:
    index = post_json(server, "/v2/repository/index", {}).json
    return {line["name"]: line["state"] for line in index if "state" in line}


def test_models_of_an_ensemble_come_and_go_with_it(tmp_path: Path) -> None:
    for name in "ab":
        add_one(tmp_path, name)
    pair = [step("a", {"IN": "IN"}, {"OUT": "x"}), step("b", {"IN": "x"}, {"OUT": "OUT"})]
    ensemble(tmp_path, "pair", ["IN FP32 -1"], ["OUT FP32 -1"], pair)
    with serving(tmp_path, arguments=["--model-control-mode=explicit"]) as server:
        load, unload = "/v2/repository/models/{}/load", "/v2/repository/models/{}/unload"
        assert post_json(server, load.format("b"), {}).status == 200
        assert post_json(server, load.format("pair"), {}).status == 200
        assert states(server) == dict.fromkeys(("a", "b", "pair"), "READY")

        post_json(server, unload.format("a"), {})
        eventually(lambda: states(server)["a"] == "UNAVAILABLE", "the model is unloaded")
        assert states(server) == {"a": "UNAVAILABLE", "b": "READY", "pair": "UNAVAILABLE"}
        refused = post_json(server, "/v2/models/pair/infer", {"inputs": []})
        assert refused.error == "Request for unknown model: 'pair' has no available versions"
        post_json(server, load.format("a"), {})
        np.testing.assert_array_equal(infer(server, "pair", SIX)["OUT"], SIX + 2)

        # It does not fit any more: what served before goes on, and what fits again is taken.
        other = {"backend": "python", "input": [{"name": "X", "data_type": "TYPE_FP32",
                 "dims": [-1]}], "output": [{"name": "OUT", "data_type": "TYPE_FP32",
                 "dims": [-1]}]}  # fmt: skip
        changed = {"parameters": {"config": json.dumps(other)}}
        assert post_json(server, load.format("a"), changed).status == 200
        server.wait_for_line("ensemble 'pair' is not renewed: .* non-existing input IN")
        assert states(server)["pair"] == "READY"
        with pytest.raises(InferenceServerException, match="in ensemble 'pair', "):
            infer(server, "pair", SIX)
        assert post_json(server, load.format("a"), {}).status == 200
        np.testing.assert_array_equal(infer(server, "pair", SIX)["OUT"], SIX + 2)

        # b was asked for by name; a came with the ensemble, and goes with it.
        post_json(server, unload.format("a"), {})
        assert post_json(server, load.format("pair"), {}).status == 200
        dependents = {"parameters": {"unload_dependents": True}}
        post_json(server, unload.format("pair"), dependents)
        eventually(lambda: states(server)["a"] == "UNAVAILABLE", "the model is unloaded")
        assert states(server) == {"a": "UNAVAILABLE", "b": "READY", "pair": "UNAVAILABLE"}


def test_an_ensemble_that_waits_for_a_model_is_served_when_polling_finds_it(tmp_path: Path) -> None:
    pair = [step("a", {"IN": "IN"}, {"OUT": "OUT"})]
    ensemble(tmp_path, "pair", ["IN FP32 -1"], ["OUT FP32 -1"], pair)
    arguments = ["--model-control-mode=poll", "--repository-poll-secs=1"]
    with serving(tmp_path, arguments=arguments) as server:
        server.wait_for_line("ensemble pair contains models that are not available .*: a")
        add_one(tmp_path, "a")
        eventually(lambda: states(server).get("pair") == "READY", "the ensemble is served")
        np.testing.assert_array_equal(infer(server, "pair", SIX)["OUT"], SIX + 1)
