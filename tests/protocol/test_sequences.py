"""Sequences of requests, to models of every backend, over both protocols."""

from __future__ import annotations

import json
import queue
import signal
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from support import models, onnx_models
from support.clients import (
    TIMEOUT,
    eventually,
    get,
    grpc_stub,
    infer_request,
    input_tensor,
    pending,
    statistics,
)
from support.servers import RunningServer, launch, serving
from tritonclient.utils import InferenceServerException

#: Answers with the sum of a sequence so far, which it keeps by itself.
SUM = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.sums = {}

        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            value, start, end, identity = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0]
                for name in ("IN", "START", "END", "CORRID")
            )
            assert bool(start) == bool(request.flags() & 1)
            assert bool(end) == bool(request.flags() & 2)
            total = value + (0 if start else self.sums.get(identity, 0))
            self.sums[identity] = total
            if end:
                del self.sums[identity]
            tensor = pb_utils.Tensor("OUT", np.array([[total]], np.float32))
            return pb_utils.InferenceResponse([tensor])
"""
#: Answers with what it was given of the whole batch.
SEEN = """
    import json
    import os

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            seen = json.dumps({
                "pid": os.getpid(),
                "rows": [
                    {tensor.name(): tensor.as_numpy().flat[0].item() for tensor in each.inputs()}
                    for each in requests
                ],
            })
            tensor = pb_utils.Tensor("OUT", np.array([[seen.encode()]], object))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
#: Counts down from IN, one execution a number: as one answer in the end, or as many.
COUNTDOWN = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.left = {}
            self.decoupled = pb_utils.using_decoupled_model_transaction_policy(
                __import__("json").loads(args["model_config"]))

        def execute(self, requests):
            answers = [self.count(request) for request in requests]
            return None if self.decoupled else answers

        def count(self, request):
            identity = request.correlation_id()
            if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
                value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().flat[0]
                self.left[identity] = value
            self.left[identity] -= 1
            left = self.left[identity]
            tensor = pb_utils.Tensor("OUT", np.array([[left]], np.float32))
            response = pb_utils.InferenceResponse([tensor])
            if self.decoupled:
                request.get_response_sender().send(response)
            if left > 0:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                return None
            if self.decoupled:
                request.get_response_sender().send(
                    flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return response
"""
_KINDS = {
    "START": "CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ]",
    "END": "CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ]",
    "READY": "CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ]",
    "CORRID": "CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64",
}
CONTROLS = "".join(
    f'control_input {{ name: "{name}" control {{ kind: {kind} }} }}\n'
    for name, kind in _KINDS.items()
)
TEXT_CONTROLS = CONTROLS.replace("TYPE_UINT64", "TYPE_STRING")
PATIENT = "max_sequence_idle_microseconds: 60000000"


def batching(more: str = "", controls: str = CONTROLS) -> str:
    return f"sequence_batching {{ {controls} {more} }}"


def config(more: str, *, batch: int = 4, out: str = "TYPE_FP32") -> str:
    return f"""
        backend: "python"
        max_batch_size: {batch}
        input {{ name: "IN" data_type: TYPE_FP32 dims: 1 }}
        output {{ name: "OUT" data_type: {out} dims: 1 }}
        {more}
    """


def onnx_config(more: str, inputs: str = "x", outputs: Sequence[str] = ("y",)) -> str:
    listed = " ".join(
        f'output {{ name: "{name}" data_type: TYPE_FP32 dims: 1 }}' for name in outputs
    )
    return f"""
        backend: "onnxruntime"
        max_batch_size: 4
        input {{ name: "{inputs}" data_type: TYPE_FP32 dims: 1 }}
        {listed}
        {more}
    """


def state(name: str, output: str, dims: str = "1", more: str = "") -> str:
    return (
        f'state {{ input_name: "{name}" output_name: "{output}" data_type: TYPE_FP32 '
        f"dims: {dims} {more} }}"
    )


def onnx_model(repository: Path, name: str, model: Any, text: str) -> Path:
    onnx_models.save(model, repository / name / "1")
    models.write(repository / name / "config.pbtxt", text)
    return repository / name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    oldest = "oldest { max_candidate_sequences: 3 }"
    models.python_model(repository, "direct", SUM, config(batching(PATIENT)))
    models.python_model(repository, "oldest", SUM, config(batching(f"{PATIENT} {oldest}")))
    models.python_model(repository, "text", SUM, config(batching(PATIENT, TEXT_CONTROLS)))
    together = "direct { max_queue_delay_microseconds: 60000000 minimum_slot_utilization: 0.5 }"
    models.python_model(
        repository, "together", SEEN, config(batching(f"{PATIENT} {together}"), out="TYPE_STRING")
    )
    two = "instance_group { count: 2 }"
    models.python_model(
        repository, "pinned", SEEN, config(batching(PATIENT) + two, batch=0, out="TYPE_STRING")
    )
    models.python_model(repository, "single", SUM, config(batching(PATIENT), batch=0))
    hasty = batching("max_sequence_idle_microseconds: 300000")
    models.python_model(repository, "hasty", SUM, config(hasty, batch=0))
    iterative = batching("iterative_sequence: true")
    models.python_model(repository, "countdown", COUNTDOWN, config(iterative))
    decoupled = "model_transaction_policy { decoupled: true }"
    models.python_model(repository, "events", COUNTDOWN, config(iterative + decoupled))
    _states(repository)
    with serving(repository) as running:
        yield running


def _states(repository: Path) -> None:
    sums = onnx_models.running_sum()
    onnx_model(repository, "state", sums, onnx_config(batching(state("s", "t"), "")))
    visible = onnx_config(batching(state("s", "t"), ""), outputs=("y", "t"))
    onnx_model(repository, "visible", sums, visible)
    first = 'initial_state { name: "first" data_type: TYPE_FP32 dims: 1 data_file: "ten" }'
    folder = onnx_model(
        repository, "initial", sums, onnx_config(batching(state("s", "t", "1", first), ""))
    )
    (folder / "initial_state").mkdir()
    (folder / "initial_state" / "ten").write_bytes(np.array([10], np.float32).tobytes())
    oldest = "oldest { max_candidate_sequences: 4 }"
    growing = onnx_config(batching(state("s", "t", "-1", "use_growable_memory: true") + oldest, ""))
    onnx_model(repository, "growing", onnx_models.growing_sum(), growing)
    warm = """
        model_warmup {
          name: "w" batch_size: 2
          inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 zero_data: true } }
        }
    """
    told = onnx_config(batching(PATIENT) + warm, outputs=("y", "start", "end", "ready", "id"))
    onnx_model(repository, "told", onnx_models.told_of_sequences(), told)
    text = f"""
        backend: "identity"
        max_batch_size: 4
        input {{ name: "INPUT0" data_type: TYPE_FP32 dims: 1 }}
        output [
          {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: 1 }},
          {{ name: "OUTPUT1" data_type: TYPE_FP32 dims: 1 }}
        ]
        {batching(state("INPUT1", "OUTPUT1"))}
    """
    models.write(repository / "identity" / "config.pbtxt", text)
    (repository / "identity" / "1").mkdir()


Step = Callable[..., dict[str, Any]]


def run(
    client: Any,
    model: str,
    value: float,
    sequence_id: int | str,
    flags: str = "",
    *,
    batch: bool = True,
    name: str = "IN",
) -> dict[str, Any]:
    """One request of a sequence, S for its start and E for its end; the outputs as numbers."""
    kind = http if isinstance(client, http.InferenceServerClient) else grpc
    data = np.array([[value]] if batch else [value], np.float32)
    tensor = kind.InferInput(name, list(data.shape), "FP32")
    tensor.set_data_from_numpy(data)
    result = client.infer(
        model,
        [tensor],
        sequence_id=sequence_id,
        sequence_start="S" in flags,
        sequence_end="E" in flags,
    )
    response = result.get_response()
    outputs = response["outputs"] if kind is http else response.outputs
    names = [each["name"] if kind is http else each.name for each in outputs]
    return {name: result.as_numpy(name).reshape(-1).tolist()[0] for name in names}


@pytest.fixture(params=["http", "grpc"])
def client(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "http":
        with http.InferenceServerClient(server.http, concurrency=4) as made:
            yield made
    else:
        with grpc.InferenceServerClient(server.grpc) as made:
            yield made


@pytest.fixture
def web(server: RunningServer) -> Iterator[http.InferenceServerClient]:
    with http.InferenceServerClient(server.http, concurrency=8) as made:
        yield made


def test_the_server_says_that_it_knows_sequences(server: RunningServer) -> None:
    assert "sequence" in get(server, "/v2").json["extensions"]


@pytest.mark.parametrize("model", ["direct", "oldest", "single"])
def test_sequences_go_on_side_by_side_from_start_to_end(client: Any, model: str) -> None:
    def step(value: float, id: int, flags: str = "") -> float:
        found: float = run(client, model, value, id, flags, batch=model != "single")["OUT"]
        return found

    assert step(1, 11, "S") == 1
    if model != "single":
        assert step(100, 12, "S") == 100
        assert step(200, 12) == 300
    assert step(2, 11) == 3
    assert step(3, 11, "E") == 6
    if model != "single":
        assert step(300, 12, "E") == 600
    with pytest.raises(InferenceServerException, match=r"sequence 11 .* must specify the START"):
        step(4, 11)


def test_ids_may_be_text(client: Any) -> None:
    assert run(client, "text", 1, "a", "S")["OUT"] == 1
    assert run(client, "text", 1, "b", "S")["OUT"] == 1
    assert run(client, "text", 2, "a", "E")["OUT"] == 3
    assert run(client, "text", 3, "b", "E")["OUT"] == 4


def test_sequences_on_one_grpc_stream(server: RunningServer) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    steps = [(1, "a", "S"), (10, "b", "S"), (2, "a", ""), (3, "a", "E"), (20, "b", "E")]
    with grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for value, id, flags in steps:
            tensor = grpc.InferInput("IN", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.array([[value]], np.float32))
            client.async_stream_infer(
                "text",
                [tensor],
                request_id=f"{id}{value}",
                sequence_id=id,
                sequence_start="S" in flags,
                sequence_end="E" in flags,
            )
        found: dict[str, float] = {}
        for _ in steps:
            result, error = answers.get(timeout=TIMEOUT)
            assert error is None
            found[result.get_response().id] = result.as_numpy("OUT").item()
        client.stop_stream()

    assert found == {"a1": 1, "b10": 10, "a2": 3, "a3": 6, "b20": 30}


def test_what_the_slots_have_runs_together_with_null_rows_between(
    server: RunningServer,
) -> None:
    with grpc.InferenceServerClient(server.grpc) as client, ThreadPoolExecutor(3) as pool:
        both = [pool.submit(run, client, "together", id, id, "S") for id in (1, 2)]
        seen = [json.loads(each.result(TIMEOUT)["OUT"])["rows"] for each in both]
        assert seen[0] == seen[1]
        assert sorted(row["CORRID"] for row in seen[0]) == [1, 2]
        assert statistics(server, "together")["execution_count"] == 1

        both = [pool.submit(run, client, "together", id, id, "S") for id in (3, 4)]
        seen = [json.loads(each.result(TIMEOUT)["OUT"])["rows"] for each in both]

    null = {"IN": 0, "START": 0, "END": 0, "READY": 0, "CORRID": 0}
    assert seen[0][:2] == [null, null]
    assert [row["READY"] for row in seen[0][2:]] == [1, 1]


def test_a_sequence_stays_with_its_instance(web: http.InferenceServerClient) -> None:
    def pid(id: int, flags: str = "") -> int:
        answer: int = json.loads(run(web, "pinned", 1, id, flags, batch=False)["OUT"])["pid"]
        return answer

    first, second = pid(1, "S"), pid(2, "S")

    assert first != second
    for _ in range(5):
        assert (pid(1), pid(2)) == (first, second)
    pid(1, "E")
    pid(2, "E")


def test_a_sequence_that_is_idle_gives_its_slot_to_who_waits(
    web: http.InferenceServerClient,
) -> None:
    run(web, "hasty", 1, 1, "S", batch=False)

    assert run(web, "hasty", 5, 2, "SE", batch=False)["OUT"] == 5

    with pytest.raises(InferenceServerException, match=r"sequence 1 .* must specify the START"):
        run(web, "hasty", 1, 1, batch=False)


def test_a_cancelled_request_cancels_what_waits_of_its_sequence(
    server: RunningServer, web: http.InferenceServerClient
) -> None:
    run(web, "single", 1, 1, "S", batch=False)
    with grpc_stub(server) as stub:
        waiting: list[Any] = []
        for number in range(3):
            tensor = input_tensor("IN", "FP32", [1], {"fp32_contents": [1.0]})
            parameters = {"sequence_id": 2, "sequence_start": number == 0}
            request = infer_request("single", [tensor], parameters=parameters)
            waiting.append(stub.ModelInfer.future(request))
            sent = len(waiting)
            eventually(lambda sent=sent: pending(server, "single") == sent, "the request waits")

        waiting[1].cancel()

        for call in (waiting[0], waiting[2]):
            assert call.exception(timeout=TIMEOUT).code().name == "CANCELLED"
    assert run(web, "single", 1, 1, "E", batch=False)["OUT"] == 2
    assert run(web, "single", 7, 2, "SE", batch=False)["OUT"] == 7


# --- implicit state -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "sums"),
    [
        ("state", [1, 3, 6]),
        ("initial", [11, 13, 16]),
        ("growing", [1, 3, 6]),
    ],
)
def test_the_server_keeps_a_models_state(client: Any, model: str, sums: list[float]) -> None:
    def step(value: float, id: int, flags: str = "") -> float:
        found = run(client, model, value, id, flags, name="x")
        assert list(found) == ["y"]
        return float(found["y"])

    start = sums[0] - 1
    for _again in range(2):
        assert step(1, 1, "S") == sums[0]
        assert step(100, 2, "S") == 100 + start
        assert step(2, 1) == sums[1]
        assert step(200, 2) == 300 + start
        assert step(3, 1, "E") == sums[2]
        assert step(300, 2, "E") == 600 + start


def test_a_state_that_is_an_output_too_is_shown(client: Any) -> None:
    assert run(client, "visible", 1, 1, "S", name="x") == {"y": 1, "t": 1}
    assert run(client, "visible", 2, 1, "E", name="x") == {"y": 3, "t": 3}


def test_states_that_have_grown_apart_run_in_one_batch(server: RunningServer) -> None:
    with grpc.InferenceServerClient(server.grpc) as client, ThreadPoolExecutor(4) as pool:
        for value in range(3):
            run(client, "growing", value, 1, "S" if value == 0 else "", name="x")
        steps = [(1, ""), (2, "S"), (3, "S"), (4, "S")]
        sums = [pool.submit(run, client, "growing", 10, id, f, name="x") for id, f in steps]

        assert [each.result(TIMEOUT)["y"] for each in sums] == [13, 10, 10, 10]
        for id, _ in steps:
            run(client, "growing", 0, id, "E", name="x")


def test_a_graph_is_told_by_its_inputs(client: Any) -> None:
    names = ("start", "end", "ready", "id")

    def told(id: int, flags: str = "") -> list[float]:
        found = run(client, "told", 1, id, flags, name="x")
        return [found[name] for name in names]

    assert told(5, "S") == [1, 0, 1, 5]
    assert told(6, "S") == [1, 0, 1, 6]
    assert told(6) == [0, 0, 1, 6]
    assert told(6, "E") == [0, 1, 1, 6]
    assert told(5, "E") == [0, 1, 1, 5]


def test_the_reference_backend_hands_its_states_on(client: Any) -> None:
    for flags in ("S", "", "E"):
        found = run(client, "identity", 4, 1, flags, name="INPUT0")
        assert found == {"OUTPUT0": 4, "OUTPUT1": 0}


def test_pytorch_keeps_states_by_their_index(tmp_path: Path) -> None:
    torch_models = pytest.importorskip("support.torch_models", reason="PyTorch is not installed")
    torch_models.save(torch_models.RunningSum(), tmp_path / "torch" / "1")
    start = CONTROLS.splitlines()[0].replace('"START"', '"START__1"')
    text = f"""
        backend: "pytorch"
        max_batch_size: 4
        input {{ name: "X__0" data_type: TYPE_FP32 dims: 1 }}
        output {{ name: "Y__0" data_type: TYPE_FP32 dims: 1 }}
        {batching(state("S__2", "S__1"), start)}
    """
    models.write(tmp_path / "torch" / "config.pbtxt", text)
    with serving(tmp_path) as running, http.InferenceServerClient(running.http) as client:
        steps = [(1, 1, "S"), (10, 2, "S"), (2, 1, ""), (20, 2, ""), (3, 1, "E")]
        sums = [run(client, "torch", *step, name="X__0")["Y__0"] for step in steps]

    assert sums == [1, 10, 3, 30, 6]


# --- iterative sequences and generate -------------------------------------------------------------


def test_a_request_without_an_id_runs_until_it_is_answered(
    server: RunningServer, client: Any
) -> None:
    before = statistics(server, "countdown")["execution_count"]

    assert run(client, "countdown", 5, 0)["OUT"] == 0

    assert statistics(server, "countdown")["execution_count"] == before + 5


def generate(server: RunningServer, path: str, **members: object) -> bytes:
    """What a model answers to a call of the generate extension."""
    url = f"http://{server.http}/v2/models/{path}"
    with urllib.request.urlopen(url, json.dumps(members).encode(), timeout=TIMEOUT) as answer:
        body: bytes = answer.read()
        return body


def test_generate_runs_sequences(server: RunningServer) -> None:
    def step(value: float, **flags: bool) -> object:
        return json.loads(generate(server, "direct/generate", IN=value, sequence_id=77, **flags))

    assert step(1, sequence_start=True) == {"OUT": 1, "model_name": "direct", "model_version": "1"}
    assert step(2, sequence_end=True) == {"OUT": 3, "model_name": "direct", "model_version": "1"}
    assert json.loads(generate(server, "countdown/generate", IN=3))["OUT"] == 0


def test_generate_stream_runs_an_iterative_model(server: RunningServer) -> None:
    lines = generate(server, "events/generate_stream", IN=3).splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    assert [event["OUT"] for event in events] == [2, 1, 0]


# --- the end of the server ------------------------------------------------------------------------


def test_a_server_that_stops_lets_sequences_finish_and_begins_none(tmp_path: Path) -> None:
    models.python_model(tmp_path, "sum", SUM, config(batching(PATIENT)))
    with serving(tmp_path) as running, http.InferenceServerClient(running.http) as client:
        run(client, "sum", 1, 1, "S")
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: get(running, "/v2/health/ready").status != 200, "it stops")

        with pytest.raises(InferenceServerException, match="Server is stopping, scheduler for"):
            run(client, "sum", 1, 2, "S")
        assert run(client, "sum", 2, 1)["OUT"] == 3
        assert run(client, "sum", 3, 1, "E")["OUT"] == 6

        assert running.stop() == 0


def test_a_server_does_not_wait_for_a_sequence_longer_than_its_timeout(tmp_path: Path) -> None:
    models.python_model(tmp_path, "sum", SUM, config(batching(PATIENT)))
    running = launch(tmp_path, arguments=["--exit-timeout-secs=1"])
    running.wait_until_up()
    with http.InferenceServerClient(running.http) as client:
        run(client, "sum", 1, 1, "S")

    assert running.stop() == 0

    assert "sequences that have not ended are given up" in running.log
    running.runtime_directory.rmdir()
