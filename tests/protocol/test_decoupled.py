"""Decoupled Python models: those of Triton's documentation, written anew, and what goes wrong."""

from __future__ import annotations

import http.client
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
from support import models
from support.clients import (
    TIMEOUT,
    Array,
    eventually,
    grpc_stub,
    infer_request,
    input_tensor,
    unharmed,
)
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Beside what the documentation's models share; each adds `respond`, a function or a coroutine.
BEGINNING = """
    import asyncio
    import json
    import threading
    import time

    import numpy as np
    import triton_python_backend_utils as pb_utils

    FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

    def read(request, name="IN"):
        return pb_utils.get_input_tensor_by_name(request, name).as_numpy()

    def response(**outputs):
        return pb_utils.InferenceResponse([pb_utils.Tensor(*each) for each in outputs.items()])

    class Threaded:
        def initialize(self, args):
            config = json.loads(args["model_config"])
            assert pb_utils.using_decoupled_model_transaction_policy(config)
            self.threads = []

        def execute(self, requests):
            for request in requests:
                thread = threading.Thread(target=self.respond, args=(request,), daemon=True)
                self.threads.append(thread)
                thread.start()
            return None

        def finalize(self):
            for thread in self.threads:
                thread.join()

    class Awaited:
        async def execute(self, requests):
            await asyncio.gather(*[self.respond(request) for request in requests])
"""

#: As often as IN says, IN.
SQUARE = """
    class TritonPythonModel(Threaded):
        def respond(self, request):
            sender = request.get_response_sender()
            number = read(request)
            for _ in range(number[0]):
                sender.send(response(OUT=number))
            sender.send(flags=FINAL)
"""

SQUARE_AWAITED = """
    class TritonPythonModel(Awaited):
        async def respond(self, request):
            sender = request.get_response_sender()
            number = read(request)
            for _ in range(number[0]):
                sender.send(response(OUT=number))
                await asyncio.sleep(0)
            sender.send(flags=FINAL)
"""

#: Each element of IN after so many milliseconds as DELAY says; the last carries the end.
REPEAT = """
    class TritonPythonModel(Threaded):
        def respond(self, request):
            sender = request.get_response_sender()
            values, delays = read(request), read(request, "DELAY")
            for index, (value, delay) in enumerate(zip(values, delays, strict=True)):
                time.sleep(delay / 1000)
                outputs = {"OUT": np.array([value]), "IDX": np.array([index], np.uint32)}
                sender.send(response(**outputs), FINAL if index == len(values) - 1 else 0)
            if not len(values):
                sender.send(flags=FINAL)
"""

REPEAT_AWAITED = REPEAT.replace("Threaded", "Awaited").replace("def r", "async def r")
REPEAT_AWAITED = REPEAT_AWAITED.replace("time.sleep", "await asyncio.sleep")

#: Does what the request's id says; IN is how many numbers a response has.
DEEDS = """
    class TritonPythonModel(Threaded):
        def execute(self, requests):
            for request in requests:
                deed = request.request_id().replace(" ", "_")
                if deed in ("raise_at_once", "raise_after_a_response"):
                    getattr(self, deed)(request)
                elif deed == "reschedule":
                    request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                elif deed == "return_a_list":
                    return [response(OUT=np.zeros(1, np.int32))]
                else:
                    super().execute([request])

        def respond(self, request):
            getattr(self, request.request_id().replace(" ", "_"))(request)

        def number(self, value, request=None):
            count = 1 if request is None else read(request)[0]
            return response(OUT=np.full(count, value, np.int32))

        def error(self, text):
            error = pb_utils.TritonError(text, pb_utils.TritonError.UNAVAILABLE)
            return pb_utils.InferenceResponse(error=error)

        def nothing(self, request):
            request.get_response_sender().send(flags=FINAL)

        def fail_in_the_middle(self, request):
            sender = request.get_response_sender()
            for each in (self.number(1), self.error("half way"), self.number(2)):
                sender.send(each)
            sender.send(flags=FINAL)

        def end_with_an_error(self, request):
            sender = request.get_response_sender()
            sender.send(self.number(1))
            sender.send(self.error("at the end"), FINAL)

        def forget(self, request):
            pass

        def forget_after_a_response(self, request):
            request.get_response_sender().send(self.number(1))

        def use_two_senders(self, request):
            first, second = request.get_response_sender(), request.get_response_sender()
            first.send(self.number(1))
            second.send(self.number(2), FINAL)
            try:
                first.send(self.number(3))
            except pb_utils.TritonModelException as error:
                print("refused:", error, flush=True)

        def raise_at_once(self, request):
            raise ValueError("no")

        def raise_after_a_response(self, request):
            request.get_response_sender().send(self.number(1))
            raise ValueError("no")

        def watch(self, request):
            sender = request.get_response_sender()
            sender.send(self.number(1))

            def by_request():
                while not request.is_cancelled():
                    time.sleep(0.005)

            watching = threading.Thread(target=by_request)
            watching.start()
            while not sender.is_cancelled():
                time.sleep(0.005)
            watching.join()
            print("both have seen it", flush=True)
            for value in range(100):
                sender.send(self.number(value))
            sender.send(flags=FINAL)
            print("and went on", flush=True)

        def gush(self, request):
            sender = request.get_response_sender()
            sent = 0
            while not request.is_cancelled():
                sender.send(self.number(sent, request))
                sent += 1
            print("dammed after", sent, flush=True)
            sender.send(flags=FINAL)
"""

DECOUPLED = "model_transaction_policy { decoupled: true }"
REPEATED = f"""
    backend: "python"
    {DECOUPLED}
    input [
      {{ name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }},
      {{ name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] }}
    ]
    output [
      {{ name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }},
      {{ name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }}
    ]
"""

BOTH = pytest.mark.parametrize("how", ["threaded", "awaited"])


@pytest.fixture(scope="module", params=["grpcio", "lean"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    squared = models.identity_config("TYPE_INT32", more=DECOUPLED)
    for name, code, config in (
        ("square_threaded", SQUARE, squared),
        ("square_awaited", SQUARE_AWAITED, squared),
        ("repeat_threaded", REPEAT, REPEATED),
        ("repeat_awaited", REPEAT_AWAITED, REPEATED),
        ("deeds", DEEDS, squared),
    ):
        models.python_model(repository, name, BEGINNING + code, config)
    arguments = [f"--grpc-transport={request.param}"]
    with serving(repository, arguments=arguments) as running, unharmed(running, tracebacks=True):
        yield running


Answer = tuple[list[int], str]


def streamed(server: RunningServer, model: str, *requests: dict[str, Array]) -> list[list[Answer]]:
    """Send the requests on one stream of the client library; the outputs or the error of each of
    their responses.
    """
    arrived: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    answers: list[list[Answer]] = [[] for _ in requests]
    with grpcclient.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        for number, arrays in enumerate(requests):
            inputs = []
            for name, array in arrays.items():
                datatype = "UINT32" if array.dtype == np.uint32 else "INT32"
                inputs.append(grpcclient.InferInput(name, list(array.shape), datatype))
                inputs[-1].set_data_from_numpy(array)
            client.async_stream_infer(
                model, inputs, request_id=str(number), enable_empty_final_response=True
            )
        left = len(requests)
        while left:
            result, error = arrived.get(timeout=60)
            assert error is None, error
            response = result.get_response()
            if response.outputs:
                outputs = [int(result.as_numpy(each.name)[0]) for each in response.outputs]
                answers[int(response.id)].append((outputs, ""))
            left -= response.parameters["triton_final_response"].bool_param
        client.stop_stream()
    return answers


def did(server: RunningServer, deed: str, size: int = 1) -> list[int | str]:
    """Have a request do this: the number in each response, or its error."""
    with grpc_stub(server) as stub:
        answers = list(stub.ModelStreamInfer(iter([asking(deed, size)]), timeout=TIMEOUT))
    return [content(answer) for answer in answers]


def asking(deed: str, size: int = 1) -> Any:
    tensor = input_tensor("IN", "INT32", [1])
    return infer_request("deeds", [tensor], [np.int32(size).tobytes()], id=deed)


def content(answer: Any) -> int | str:
    if answer.error_message:
        return str(answer.error_message)
    return int(np.frombuffer(answer.infer_response.raw_output_contents[0], np.int32)[0])


def numbers(*values: int) -> Array:
    return np.array(values, np.int32)


# --- the documentation's models -------------------------------------------------------------------


@BOTH
def test_square_answers_as_often_as_the_number_says(server: RunningServer, how: str) -> None:
    counts = [0, 1, 7, 100]

    answers = streamed(server, f"square_{how}", *({"IN": numbers(count)} for count in counts))

    assert answers == [[([count], "")] * count for count in counts]


@BOTH
def test_repeat_answers_each_number_in_its_time(server: RunningServer, how: str) -> None:
    delays = np.array([4, 1, 2, 1], np.uint32)

    (answers,) = streamed(server, f"repeat_{how}", {"IN": numbers(4, 2, 0, 1), "DELAY": delays})

    assert answers == [([4, 0], ""), ([2, 1], ""), ([0, 2], ""), ([1, 3], "")]


@BOTH
def test_repeat_of_nothing_has_an_end(server: RunningServer, how: str) -> None:
    nothing = {"IN": numbers(), "DELAY": np.array([], np.uint32)}

    assert streamed(server, f"repeat_{how}", nothing) == [[]]


@BOTH
def test_many_streams_at_once_get_their_own_answers(server: RunningServer, how: str) -> None:
    def run(count: int) -> list[list[Answer]]:
        return streamed(server, f"square_{how}", *[{"IN": numbers(count)}] * 5)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(run, range(1, 13)))

    assert answers == [[[([count], "")] * count] * 5 for count in range(1, 13)]


@BOTH
def test_unary_calls_are_refused(server: RunningServer, how: str) -> None:
    tensor = grpcclient.InferInput("IN", [1], "INT32")
    tensor.set_data_from_numpy(numbers(1))
    with (
        grpcclient.InferenceServerClient(server.grpc) as client,
        pytest.raises(
            InferenceServerException,
            match="ModelInfer RPC doesn't support models with decoupled transaction policy",
        ),
    ):
        client.infer(f"square_{how}", [tensor])


# --- what goes wrong ------------------------------------------------------------------------------

FAILED = "Failed to process the request(s) for model 'deeds_0', message: {}"


@pytest.mark.parametrize(
    ("deed", "expected"),
    [
        ("nothing", []),
        ("fail in the middle", [1, "half way", 2]),
        ("end with an error", [1, "at the end"]),
        ("use two senders", [1, 2]),
        (
            "forget",
            [FAILED.format("the model let go of the request without sending a response.")],
        ),
        ("forget after a response", [1]),
        ("raise at once", [FAILED.format("ValueError: no")]),
        ("raise after a response", [1, FAILED.format("ValueError: no")]),
        (
            "return a list",
            [
                FAILED.format(
                    "Python model 'deeds_0' is using the decoupled mode and the execute function "
                    "must return None."
                )
            ],
        ),
        (
            "reschedule",
            [
                "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model "
                "is not configured to handle such a flag"
            ],
        ),
    ],
)
def test_a_stream_says_what_the_model_said_and_ends(
    server: RunningServer, deed: str, expected: Sequence[int | str]
) -> None:
    prefix = f"[request id: {deed}] "

    answers = did(server, deed)

    told = [each.removeprefix(prefix) if isinstance(each, str) else each for each in answers]
    assert told == expected
    assert did(server, "nothing") == []


def test_all_senders_of_a_request_are_closed_by_its_end(server: RunningServer) -> None:
    did(server, "use two senders")

    server.wait_for_line(r"refused: Unable to send response\. Response sender has been closed\.")


def test_the_model_sees_from_any_thread_that_its_client_has_gone(server: RunningServer) -> None:
    """And what it sends then harms nobody."""
    with grpc_stub(server) as stub:
        call = stub.ModelStreamInfer(iter([asking("watch")]), timeout=TIMEOUT)
        assert content(next(call)) == 1
        assert did(server, "fail in the middle")[0] == 1, "others are answered meanwhile"
        call.cancel()
        with pytest.raises(grpc.RpcError, match="CANCELLED"):
            next(call)
    server.wait_for_line("both have seen it")
    server.wait_for_line("and went on")
    assert did(server, "end with an error")[0] == 1


def test_a_model_that_sends_faster_than_its_client_reads_is_stopped(
    server: RunningServer,
) -> None:
    """What was sent until then is read, then comes the reason, and the end."""
    supervisor = psutil.Process(server.process.pid)
    before = supervisor.memory_info().rss
    with grpc_stub(server) as stub:
        call = stub.ModelStreamInfer(iter([asking("gush", 2048)]), timeout=90)
        sent = int(server.wait_for_line(r"dammed after (\d+)")[1])
        assert supervisor.memory_info().rss - before < 256 << 20

        *first, last = [content(answer) for answer in call]

    assert first == list(range(len(first)))
    assert 0 < len(first) <= sent
    assert "its client reads slower than the model answers" in str(last)
    eventually(lambda: did(server, "nothing") == [], "others are answered")


def test_events_of_a_generate_stream_are_the_responses(server: RunningServer) -> None:
    def events(deed: str) -> str:
        path = "/v2/models/deeds/generate_stream"
        with_id = f'{{"IN": 1, "id": "{deed}"}}'
        return _chunks(server, path, with_id)

    assert events("nothing") == ""
    parts = events("fail in the middle").split("\n\n")
    assert ['"OUT":1' in parts[0], "half way" in parts[1], '"OUT":2' in parts[2]] == [True] * 3
    assert "let go of the request" in events("forget")
    assert events("end with an error").count("data: ") == 2


def _chunks(server: RunningServer, path: str, body: str) -> str:
    """The body of an answer in chunks."""
    connection = http.client.HTTPConnection(server.http, timeout=TIMEOUT)
    try:
        connection.request("POST", path, body)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
