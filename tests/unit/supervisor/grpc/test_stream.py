"""ModelStreamInfer: order, decoupled responses, errors, cancellation, flow control."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException
from unit.supervisor.grpc.planes import FakeDataPlane, echo, failure

from tritonpy.ipc.errors import InternalError, InvalidArgumentError, UnavailableError
from tritonpy.supervisor.grpc import stream as module
from tritonpy.supervisor.grpc.status import SHUTTING_DOWN
from tritonpy.supervisor.grpc.stream import InferStream
from tritonpy.supervisor.request import InferResponse

pytestmark = pytest.mark.anyio

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"


def message(model: str, request_id: str, **fields: Any) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id, **fields)
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(np.float32(1).tobytes())
    return request


def wanting_empty_final(model: str, request_id: str) -> Any:
    wanted = service_pb2.InferParameter(bool_param=True)
    return message(model, request_id, parameters={"triton_enable_empty_final_response": wanted})


@pytest.fixture
def stream(channel: grpc.aio.Channel) -> Any:
    """Opens streams of the client's messages."""
    return channel.stream_stream(
        PATH,
        service_pb2.ModelInferRequest.SerializeToString,
        service_pb2.ModelStreamInferResponse.FromString,
    )


async def test_responses_come_in_the_order_of_the_requests(
    stream: Any, dataplane: FakeDataPlane
) -> None:
    dataplane.hold = True
    call = stream()
    for name in "abc":
        await call.write(message("identity", name))
    await dataplane.streamed_requests(3)
    for index in (2, 1, 0):
        dataplane.streamed[index][0](echo(dataplane.requests[index]))
    await call.done_writing()

    responses = [response async for response in call]

    assert [response.infer_response.id for response in responses] == ["a", "b", "c"]
    assert all(
        response.infer_response.parameters["triton_final_response"].bool_param
        for response in responses
    )


async def test_decoupled_responses_come_as_they_are_made_between_the_others(
    stream: Any, dataplane: FakeDataPlane
) -> None:
    dataplane.hold = True
    call = stream()
    for model, name in [("identity", "a"), ("decoupled", "b"), ("decoupled", "c")]:
        await call.write(message(model, name))
    await dataplane.streamed_requests(3)
    a, b, c = dataplane.requests
    (on_a, _), (on_b, _), (on_c, _) = dataplane.streamed

    async def next_response() -> tuple[str, bool]:
        response = (await call.read()).infer_response
        return response.id, response.parameters["triton_final_response"].bool_param

    on_c(echo(c, final=False))
    assert await next_response() == ("c", False)
    on_b(echo(b, final=False))
    on_c(echo(c, final=False))
    assert await next_response() == ("b", False)
    assert await next_response() == ("c", False)
    on_a(echo(a))
    assert await next_response() == ("a", True)
    on_c(echo(c))
    assert await next_response() == ("c", True)
    on_b(InferResponse("decoupled", 1, "b"))  # the end of b, which nobody asked to see
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_an_empty_final_response_is_sent_to_those_who_asked(
    stream: Any, dataplane: FakeDataPlane
) -> None:
    call = stream()
    await call.write(wanting_empty_final("decoupled", "a"))
    await dataplane.streamed_requests(1)
    await call.done_writing()
    dataplane.streamed[0][0](InferResponse("decoupled", 1, "a"))

    (response,) = [response async for response in call]

    assert response.error_message == ""
    assert response.infer_response.id == "a"
    assert response.infer_response.model_version == "1"
    assert response.infer_response.parameters["triton_final_response"].bool_param is True
    assert list(response.infer_response.outputs) == []


async def test_an_error_belongs_to_its_request_and_leaves_the_stream_open(
    stream: Any, dataplane: FakeDataPlane
) -> None:
    dataplane.hold = True
    call = stream()
    await call.write(message("identity", "a"))
    await call.write(message("unknown", "b"))
    await call.write(message("identity", "c", model_version="x"))
    await call.write(message("decoupled", "d"))
    await call.write(message("identity", "e"))
    await dataplane.streamed_requests(3)
    a, d, e = dataplane.requests
    (on_a, _), (on_d, _), (on_e, _) = dataplane.streamed
    on_d(failure(d, InternalError("one of many"), final=False))
    on_d(failure(d, InternalError("the last"), final=True))
    on_e(echo(e))
    on_a(failure(a, InternalError("broken")))
    await call.done_writing()

    responses = [response async for response in call]

    assert [(r.infer_response.id, r.error_message.partition(":")[0]) for r in responses] == [
        ("d", "one of many"),
        ("d", "the last"),
        ("a", "broken"),
        ("b", "Request for unknown model"),
        ("c", "failed to get model version from specified version string 'x' (details"),
        ("e", ""),
    ]
    assert await call.code() is grpc.StatusCode.OK


async def test_a_request_that_the_dataplane_refuses_is_answered_in_its_place(
    stream: Any, dataplane: FakeDataPlane
) -> None:
    def refuse(_: Any) -> None:
        raise InvalidArgumentError("wrong shape")

    dataplane.answer = refuse
    call = stream()
    await call.write(message("identity", "a", model_version="1"))
    await call.done_writing()

    (response,) = [response async for response in call]

    assert response.error_message == "wrong shape"
    assert response.infer_response.model_name == "identity"
    assert response.infer_response.model_version == "1"


async def test_the_first_error_ends_the_stream_of_a_client_that_asked_for_it(
    stream: Any, dataplane: FakeDataPlane
) -> None:
    call = stream(metadata=[("triton_grpc_error", "true")])
    await call.write(message("decoupled", "a"))
    await call.write(message("unknown", "b"))

    with pytest.raises(grpc.aio.AioRpcError, match="unknown model: 'unknown'") as caught:
        await call.read()

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert dataplane.streamed[0][1].cancelled


async def test_cancelling_the_stream_cancels_what_is_outstanding(
    stream: Any, dataplane: FakeDataPlane, server: Any
) -> None:
    dataplane.hold = True
    call = stream()
    await call.write(message("identity", "a"))
    await call.write(message("decoupled", "b"))
    await call.write(message("decoupled", "c"))
    await dataplane.streamed_requests(3)
    dataplane.streamed[2][0](echo(dataplane.requests[2]))
    assert (await call.read()).infer_response.id == "c"

    call.cancel()
    async with asyncio.timeout(10):
        await server.stop(5)

    assert [handle.cancelled for _, handle in dataplane.streamed] == [True, True, False]
    dataplane.streamed[0][0](echo(dataplane.requests[0]))  # too late, and harmless


async def test_bytes_that_are_no_request_end_the_stream(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(PATH)()
    await call.write(b"\xff")

    with pytest.raises(grpc.aio.AioRpcError, match="Unable to parse request") as caught:
        await call.read()

    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_fault_of_the_server_ends_the_stream_and_is_not_shown(
    stream: Any, dataplane: FakeDataPlane, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise KeyError("a secret of the server")

    dataplane.answer = fail
    call = stream()
    await call.write(message("identity", "a"))

    with pytest.raises(grpc.aio.AioRpcError, match="unexpected error in ModelStream") as caught:
        await call.read()

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "a secret of the server" in caplog.text


async def test_tritons_asyncio_client_streams(port: int) -> None:
    tensor = tritonclient.grpc.aio.InferInput("INPUT0", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 2), np.float32))

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for index in range(3):
            yield {"model_name": "identity", "inputs": [tensor], "request_id": str(index)}

    async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        results = [result async for result, _ in client.stream_infer(requests())]

    assert [result.get_response().id for result in results] == ["0", "1", "2"]
    np.testing.assert_array_equal(results[0].as_numpy("OUTPUT0"), np.ones((1, 2), np.float32))


async def test_tritons_threaded_client_streams(port: int) -> None:
    def talk() -> list[Any]:
        answers: queue.Queue[Any] = queue.Queue()
        tensor = tritonclient.grpc.InferInput("INPUT0", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
            client.start_stream(lambda result, error: answers.put(error or result))
            client.async_stream_infer("identity", [tensor], request_id="a")
            client.async_stream_infer("nothing", [tensor], request_id="b")
            got = [answers.get(timeout=10), answers.get(timeout=10)]
            client.stop_stream()
            return got

    first, second = await asyncio.to_thread(talk)

    assert first.get_response().id == "a"
    assert isinstance(second, InferenceServerException)
    assert "unknown model: 'nothing'" in str(second)


class Wire:
    """A transport in memory: the test is the client."""

    def __init__(self, *requests: Any) -> None:
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        for request in requests:
            self.incoming.put_nowait(request.SerializeToString())
        self.sent: list[str] = []
        self.errors: list[str] = []
        self.may_send = asyncio.Event()
        self.may_send.set()

    async def send(self, data: bytes) -> None:
        await self.may_send.wait()
        response = service_pb2.ModelStreamInferResponse.FromString(data)
        self.sent.append(response.infer_response.id)
        if response.error_message:
            self.errors.append(response.error_message)

    def stream(self, dataplane: Any) -> InferStream:
        return InferStream(dataplane, self.incoming.get, self.send, close_on_error=False)


async def settled() -> None:
    """Let every task that can run do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_client_that_does_not_read_is_not_read_from(dataplane: FakeDataPlane) -> None:
    wire = Wire(*(message("identity", str(index)) for index in range(3000)))
    wire.incoming.put_nowait(None)
    wire.may_send.clear()
    task = asyncio.create_task(wire.stream(dataplane).run())

    await dataplane.streamed_requests(1000)
    await settled()
    accepted = len(dataplane.requests)
    wire.may_send.set()
    await task

    assert accepted <= 1025
    assert wire.sent == [str(index) for index in range(3000)]


async def test_a_request_whose_responses_nobody_reads_is_cancelled_and_told_so(
    dataplane: FakeDataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING_BYTES", 5000)
    wire = Wire(message("decoupled", "fast"))
    wire.may_send.clear()
    task = asyncio.create_task(wire.stream(dataplane).run())
    await dataplane.streamed_requests(1)
    (request,), ((respond, handle),) = dataplane.requests, dataplane.streamed

    for _ in range(30):
        respond(echo(request, final=False))
        await settled()
    assert handle.cancelled
    wire.incoming.put_nowait(None)
    await settled()
    assert not task.done(), "its last response is still to come"
    respond(echo(request))
    wire.may_send.set()
    await task

    # One is on its way, of the others (516 bytes each) so many find room, and the error follows.
    assert wire.sent == ["fast"] * (1 + 9 + 1)
    assert [text.partition(":")[0] for text in wire.errors] == ["the request is cancelled"]


async def test_responses_of_others_find_room_again_when_the_client_reads(
    dataplane: FakeDataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING_BYTES", 5000)
    wire = Wire(message("decoupled", "fast"), message("decoupled", "slow"))
    wire.may_send.clear()
    task = asyncio.create_task(wire.stream(dataplane).run())
    await dataplane.streamed_requests(2)
    fast, slow = dataplane.requests
    (respond_fast, _), (respond_slow, handle) = dataplane.streamed
    for _ in range(30):
        respond_fast(echo(fast, final=False))
    respond_fast(echo(fast))
    wire.may_send.set()
    await settled()
    wire.incoming.put_nowait(None)

    for _ in range(30):
        respond_slow(echo(slow, final=False))
        await settled()
    respond_slow(echo(slow))
    await task

    assert wire.sent.count("slow") == 31
    assert not handle.cancelled


async def test_a_client_that_leaves_much_unread_is_not_read_from(
    dataplane: FakeDataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING_BYTES", 5000)
    wire = Wire()
    wire.may_send.clear()
    task = asyncio.create_task(wire.stream(dataplane).run())

    for index in range(40):
        wire.incoming.put_nowait(message("identity", str(index)).SerializeToString())
        await settled()
    accepted = len(dataplane.requests)
    wire.incoming.put_nowait(None)
    wire.may_send.set()
    await task

    # One response is on its way, ten (516 bytes each) are enough, and one more was being read.
    assert accepted == 1 + 10 + 1
    assert wire.sent == [str(index) for index in range(40)]
    assert wire.errors == []


async def test_draining_answers_what_was_read_and_ends_the_stream(
    dataplane: FakeDataPlane,
) -> None:
    dataplane.hold = True
    wire = Wire(message("identity", "a"))
    stream = wire.stream(dataplane)
    task = asyncio.create_task(stream.run())
    await dataplane.streamed_requests(1)

    stream.drain()
    wire.incoming.put_nowait(message("identity", "b").SerializeToString())
    await settled()
    assert not task.done()
    assert repr(stream) == "<InferStream DRAINED outstanding=1 unsent=0>"
    dataplane.streamed[0][0](echo(dataplane.requests[0]))

    with pytest.raises(UnavailableError, match=SHUTTING_DOWN):
        await task
    assert wire.sent == ["a"]
    assert len(dataplane.requests) == 1


async def test_draining_after_the_client_ended_changes_nothing(dataplane: FakeDataPlane) -> None:
    dataplane.hold = True
    wire = Wire(message("identity", "a"))
    wire.incoming.put_nowait(None)
    stream = wire.stream(dataplane)
    task = asyncio.create_task(stream.run())
    await dataplane.streamed_requests(1)
    await settled()

    stream.drain()
    dataplane.streamed[0][0](echo(dataplane.requests[0]))
    await task

    assert wire.sent == ["a"]
