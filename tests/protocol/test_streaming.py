"""Models that answer any number of times, over gRPC streams."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
from support import models
from support.clients import (
    TIMEOUT,
    grpc_error,
    grpc_stub,
    infer_request,
    input_tensor,
    unharmed,
)
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Sends each element of IN by itself, in one go or from a thread, and may end with an error.
SENDER = """
    import threading

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().copy()
                if array.size and array[0] < 0:
                    raise ValueError("a negative number")
                threading.Thread(target=self.send, args=(sender, array)).start()

        def send(self, sender, array):
            for element in array:
                if element == 99:
                    error = pb_utils.TritonError("ninety-nine", pb_utils.TritonError.NOT_FOUND)
                    sender.send(pb_utils.InferenceResponse(error=error))
                    continue
                tensor = pb_utils.Tensor("OUT", np.array([element], np.float32))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"
FINAL = "triton_final_response"
WITH_FINAL = {"triton_enable_empty_final_response": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.repeat(repository, "repeat")
    models.square(repository, "square")
    models.python_identity(repository, "once")
    config = models.identity_config(more=DECOUPLED)
    models.python_model(repository, "sender", SENDER, config)
    with serving(repository) as running, unharmed(running, tracebacks=True):
        yield running


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[Any]:
    with grpc_stub(server) as stub:
        yield stub


def floats(model: str, values: Sequence[float], **more: Any) -> Any:
    tensor = input_tensor("IN", "FP32", [len(values)])
    return infer_request(model, [tensor], [np.array(values, np.float32).tobytes()], **more)


def number(value: int, **more: Any) -> Any:
    tensor = input_tensor("IN", "INT32", [1])
    return infer_request("square", [tensor], [np.array([value], np.int32).tobytes()], **more)


def repeated(values: Sequence[int], delays: Sequence[int], wait: int = 0, **more: Any) -> Any:
    tensors = [
        input_tensor("IN", "INT32", [len(values)]),
        input_tensor("DELAY", "UINT32", [len(delays)]),
        input_tensor("WAIT", "UINT32", [1]),
    ]
    raw = [np.array(each, np.uint32).tobytes() for each in (values, delays, [wait])]
    return infer_request("repeat", tensors, raw, **more)


def stream(stub: Any, *requests: Any) -> list[Any]:
    """Send all requests on one stream and return all that comes back."""
    return list(stub.ModelStreamInfer(iter(requests), timeout=TIMEOUT))


def is_final(answer: Any) -> bool:
    return bool(answer.infer_response.parameters[FINAL].bool_param)


def value(answer: Any, dtype: str = "<f4") -> float:
    assert not answer.error_message
    return float(np.frombuffer(answer.infer_response.raw_output_contents[0], dtype)[0])


def test_responses_come_in_the_order_in_which_the_model_sent_them(stub: Any) -> None:
    answers = stream(stub, floats("sender", [3, 1, 2], id="s"))
    assert [value(answer) for answer in answers] == [3, 1, 2]
    assert {answer.infer_response.id for answer in answers} == {"s"}
    assert [is_final(answer) for answer in answers] == [False] * 3


@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_empty_final_response_comes_where_it_is_asked_for(stub: Any, count: int) -> None:
    answers = stream(stub, floats("sender", range(count), parameters=WITH_FINAL, id="s"))
    assert [value(answer) for answer in answers[:-1]] == list(range(count))
    last = answers[-1].infer_response
    assert is_final(answers[-1])
    assert (last.model_name, last.id, len(last.outputs)) == ("sender", "s", 0)


def test_a_model_may_send_nothing_at_all(stub: Any) -> None:
    assert stream(stub, floats("sender", [])) == []


def test_repeat_numbers_its_responses(stub: Any) -> None:
    answers = stream(stub, repeated([7, 8, 9], [0, 1, 0], parameters=WITH_FINAL))
    outputs = [answer.infer_response for answer in answers[:-1]]
    for position, response in enumerate(outputs):
        found = {
            output.name: np.frombuffer(data, "<i4").tolist()
            for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
        }
        assert found == {"OUT": [7 + position], "IDX": [position]}
    assert is_final(answers[-1])


def test_square_answers_as_often_as_it_is_told(stub: Any) -> None:
    answers = stream(stub, number(4), number(0), number(2))
    assert sorted(value(answer, "<i4") for answer in answers) == [2, 2, 4, 4, 4, 4]


def test_decoupled_responses_interleave_and_others_keep_their_order(stub: Any) -> None:
    slow = repeated([1, 2], [200, 0], id="slow")
    answers = stream(
        stub,
        slow,
        *(floats("once", [position], id=f"o{position}") for position in range(5)),
        floats("sender", [5], id="fast"),
    )
    ids = [answer.infer_response.id for answer in answers]
    assert [one for one in ids if one.startswith("o")] == [f"o{position}" for position in range(5)]
    assert ids.index("fast") < ids.index("slow")
    assert [value(answer, "<i4") for answer in answers if answer.infer_response.id == "slow"] == [
        1,
        2,
    ]


def test_models_that_answer_once_say_that_it_is_final(stub: Any) -> None:
    (answer,) = stream(stub, floats("once", [1]))
    assert is_final(answer)
    (answer,) = stream(stub, floats("once", [1], parameters=WITH_FINAL))
    assert is_final(answer)
    assert value(answer) == 1


def test_an_error_among_the_responses_leaves_the_others(stub: Any) -> None:
    answers = stream(stub, floats("sender", [1, 99, 2], id="e"))
    assert [answer.error_message for answer in answers] == ["", "ninety-nine", ""]
    assert answers[1].infer_response.id == "e"
    assert value(answers[2]) == 2


def test_an_exception_of_the_model_is_its_requests_error(stub: Any) -> None:
    bad, good = floats("sender", [-1], id="bad"), floats("sender", [1], id="good")
    answers = {answer.infer_response.id: answer for answer in stream(stub, bad, good)}
    assert answers["bad"].error_message == (
        "Failed to process the request(s) for model 'sender_0', message: "
        "ValueError: a negative number"
    )
    assert is_final(answers["bad"])
    assert value(answers["good"]) == 1


def test_a_client_may_have_a_models_error_end_its_stream(stub: Any) -> None:
    call = stub.ModelStreamInfer(
        iter([floats("sender", [99])]), timeout=TIMEOUT, metadata=[("triton_grpc_error", "true")]
    )
    assert grpc_error(lambda: list(call)) == ("NOT_FOUND", "ninety-nine")


def test_large_responses_keep_their_own_data(stub: Any) -> None:
    requests = [floats("once", np.full(100_000, seed).tolist(), id=str(seed)) for seed in range(20)]
    for seed, answer in enumerate(stream(stub, *requests)):
        data = np.frombuffer(answer.infer_response.raw_output_contents[0], "<f4")
        assert answer.infer_response.id == str(seed)
        assert (data == seed).all()


def test_many_streams_at_once(server: RunningServer) -> None:
    with grpc_stub(server) as stub:
        calls = [
            stub.ModelStreamInfer(
                iter([floats("sender", [seed] * 20, id=str(seed))]), timeout=TIMEOUT
            )
            for seed in range(16)
        ]
        for seed, call in enumerate(calls):
            assert [value(answer) for answer in call] == [seed] * 20


def test_a_cancelled_stream_ends_what_runs_for_it(stub: Any) -> None:
    call = stub.ModelStreamInfer(iter([repeated([1, 2, 3], [0, 300, 0])]), timeout=TIMEOUT)
    assert value(next(call), "<i4") == 1
    call.cancel()
    with pytest.raises(grpc.RpcError):
        next(call)
    assert [value(one, "<i4") for one in stream(stub, repeated([4], [0]))] == [4]


def test_by_the_clients_callback(server: RunningServer) -> None:
    received: queue.SimpleQueue[tuple[Any, InferenceServerException | None]] = queue.SimpleQueue()
    tensor = grpcclient.InferInput("IN", [2], "FP32")
    tensor.set_data_from_numpy(np.array([5, 6], np.float32))
    with grpcclient.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: received.put((result, error)))
        client.async_stream_infer(
            "sender", [tensor], request_id="c", enable_empty_final_response=True
        )
        results = [received.get(timeout=TIMEOUT) for _ in range(3)]
        client.async_stream_infer("nope", [tensor])
        _, error = received.get(timeout=TIMEOUT)
        client.stop_stream()
    assert [error for _, error in results] == [None] * 3
    assert [result.as_numpy("OUT").item() for result, _ in results[:2]] == [5, 6]
    assert results[2][0].get_response().parameters[FINAL].bool_param
    assert "Request for unknown model: 'nope' is not found" in str(error)


@pytest.mark.anyio
async def test_by_the_asynchronous_client(server: RunningServer) -> None:
    tensor = grpcaio.InferInput("IN", [3], "FP32")
    tensor.set_data_from_numpy(np.array([1, 2, 3], np.float32))

    async def requests() -> Any:
        yield {"model_name": "sender", "inputs": [tensor], "request_id": "a"}

    async with grpcaio.InferenceServerClient(server.grpc) as client:
        found = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            found.append(result.as_numpy("OUT").item())
    assert found == [1, 2, 3]
