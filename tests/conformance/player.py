"""Ask a server the questions of an area, and write its answers down as plain data."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from .case import Area, Case, Counted, Document, Grpc, Http, Meanwhile, Settled, Stream, Wire
from .normalisers import normalised

Answer = dict[str, Any]

#: Long enough for a loaded machine and a slow load.
_PATIENCE_S = 60.0
#: How long a server is given that is known not to answer.
_MOMENT_S = 3.0
_SERVICE = "/inference.GRPCInferenceService/"
#: How long a body is and what becomes of the connection is not compared: the body is.
_FRAMING = {"connection", "content-length"}


@dataclass(frozen=True)
class Player:
    """Asks one server: its addresses as (host, port), and the repository that it serves."""

    http: tuple[str, int]
    grpc: str
    repository: Path
    metrics: tuple[str, int]

    def play(self, area: Area) -> Iterator[tuple[Case, Answer]]:
        """Take all steps of an area in order, and yield each case with its answer."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.grpc, options=options) as channel:
            for step in area.steps:
                match step:
                    case Settled():
                        self._settle(step)
                    case Counted():
                        self._await_count(step)
                    case Meanwhile():
                        yield from self._meanwhile(step, channel)
                    case _:
                        yield step, self._answer(step, channel)

    def _answer(self, case: Case, channel: Any) -> Answer:
        match case:
            case Http() | Wire():
                answer = self._http(case)
            case Grpc():
                answer = _unary(case, channel)
            case Stream():
                answer = _stream(case, channel)
        return normalised(answer, case.normalise, self.repository)

    def _http(self, case: Http | Wire) -> Answer:
        patience = _MOMENT_S if case.unanswered else _PATIENCE_S
        method = case.method if isinstance(case, Http) else "GET"
        asks_metrics = isinstance(case, Http) and case.service == "metrics"
        address = self.metrics if asks_metrics else self.http
        with closing(socket.create_connection(address, timeout=patience)) as connection:
            connection.sendall(case.encoded())
            try:
                response = HTTPResponse(connection, method=method)
                response.begin()
                return _document(response, response.read())
            except TimeoutError:
                assert case.unanswered, f"no answer to '{case.name}'"
                return {"answered": False}
            except (HTTPException, ConnectionResetError):
                return {"connection": "closed"}

    def _settle(self, wanted: Settled) -> None:
        question = Http("", "POST", "/v2/repository/index")

        def settled(index: Any) -> bool:
            states = {entry.get("state") for entry in index if entry["name"] == wanted.model}
            return states == {wanted.state}

        self._poll(question, settled, str(wanted))

    def _await_count(self, wanted: Counted) -> None:
        question = Http("", "GET", f"/v2/models/{wanted.model}/stats")

        def counted(document: Any) -> bool:
            (entry,) = document["model_stats"]
            found = entry["inference_stats"]
            succeeded = found["success"]["count"]
            # An execution may be counted after the answer to its request.
            executed = found["queue"]["count"] >= succeeded
            return bool(executed and succeeded + found["fail"]["count"] >= wanted.requests)

        self._poll(question, counted, str(wanted))

    def _poll(self, question: Http, condition: Callable[[Any], bool], what: str) -> None:
        """Ask until the answer is the one that is awaited: a server announces nothing."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition(document := json.loads(self._http(question)["body"])):
            assert time.monotonic() < deadline, f"never {what}: {document}"
            threading.Event().wait(0.02)

    def _meanwhile(self, step: Meanwhile, channel: Any) -> Iterator[tuple[Case, Answer]]:
        answers: list[Answer] = []
        call = threading.Thread(target=lambda: answers.append(self._answer(step.call, channel)))
        call.start()
        try:
            self._settle(step.settled)
            for case in step.cases:
                yield case, self._answer(case, channel)
        finally:
            (self.repository / step.file).touch()
            call.join()
        yield step.call, answers[0]


# --- HTTP -----------------------------------------------------------------------------------------


def _document(response: HTTPResponse, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    answer: Answer = {
        "status": f"{response.status} {response.reason}",
        "headers": {name: headers[name] for name in sorted(headers.keys() - _FRAMING)},
    }
    encoding = headers.get("content-encoding")
    if encoding:
        body = zlib.decompress(body, zlib.MAX_WBITS | 32)  # gzip or zlib, whichever it is
    length = int(headers.get("inference-header-content-length", len(body)))
    answer["body"] = body[:length].decode(errors="backslashreplace")
    if body[length:]:
        answer["tensors"] = body[length:].hex()
    return answer


# --- gRPC -----------------------------------------------------------------------------------------


def _unary(case: Grpc, channel: Any) -> Answer:
    path = case.rpc if case.rpc.startswith("/") else f"{_SERVICE}{case.rpc}"
    request = case.message if isinstance(case.message, bytes) else None
    if request is None:
        assert not isinstance(case.message, bytes)
        request = _message(f"{case.rpc}Request", case.message).SerializeToString()
    call = channel.unary_unary(path)  # without a codec: bytes in, bytes out
    try:
        reply = call(request, timeout=_MOMENT_S if case.unanswered else _PATIENCE_S)
    except grpc.RpcError as error:
        if case.unanswered and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return {"answered": False}
        return {"code": error.code().name, "details": error.details()}
    if case.rpc.startswith("/"):
        return {"code": "OK", "reply": reply.hex()}
    return {"code": "OK", "message": _as_json(f"{case.rpc}Response", reply)}


def _stream(case: Stream, channel: Any) -> Answer:
    call = channel.stream_stream(f"{_SERVICE}ModelStreamInfer")
    requests = [
        _message("ModelInferRequest", message).SerializeToString() for message in case.messages
    ]
    messages: list[Document] = []
    try:
        for reply in call(iter(requests), timeout=_PATIENCE_S):
            messages.append(_as_json("ModelStreamInferResponse", reply))
    except grpc.RpcError as error:
        return {"messages": messages, "code": error.code().name, "details": error.details()}
    return {"messages": messages, "code": "OK"}


def _message(kind: str, document: Document) -> Message:
    message: Message = getattr(service_pb2, kind)()
    return json_format.ParseDict(_with_text(document), message)


def _with_text(value: Any) -> Any:
    """The same document with bytes as protobuf's JSON has them."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _with_text(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_with_text(item) for item in value]
    return value


def _as_json(kind: str, data: bytes) -> Document:
    message: Message = getattr(service_pb2, kind)()
    message.ParseFromString(data)
    document: Document = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return document
