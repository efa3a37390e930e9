"""Every endpoint but inference over a real socket: routes, errors, shutdown."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import logging
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
import tritonclient.http

from tritonpy.ipc.errors import InvalidArgumentError, UnavailableError
from tritonpy.supervisor.access import Access, Policy
from tritonpy.supervisor.http.metrics import MetricsServer
from tritonpy.supervisor.http.server import HttpServer
from tritonpy.supervisor.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from unit.supervisor.http.conftest import Loop, Served


def test_tritonclient_manages_the_server(served: Served) -> None:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo", "1")
        assert client.get_server_metadata() == {
            "name": "triton",
            "version": "2.73.0",
            "extensions": ["classification", "statistics"],
        }
        assert client.get_model_metadata("echo") == {
            "name": "echo",
            "versions": ["1", "2"],
            "platform": "identity",
            "inputs": [{"name": "IN", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [-1]}],
        }
        assert client.get_model_config("echo")["input"][0]["name"] == "IN"
        assert client.get_model_repository_index() == [
            {"name": "echo", "version": "1", "state": "READY"},
            {"name": "bad", "version": "1", "state": "UNAVAILABLE", "reason": "why"},
            {"name": "new"},
        ]
        client.load_model("echo", config="{}", files={"file:1/model.bin": b"\x00\xff"})
        client.unload_model("echo", unload_dependents=True)
        statistics = client.get_inference_statistics("echo", "1")["model_stats"][0]
    assert served.control.calls == [
        ("index", False),
        ("load", "echo", {"config": "{}", "file:1/model.bin": b"\x00\xff"}),
        ("unload", "echo", True),
        ("statistics", "echo", 1),
    ]
    assert list(statistics) == [
        "name",
        "version",
        "last_inference",
        "inference_count",
        "execution_count",
        "inference_stats",
        "response_stats",
        "batch_stats",
        "memory_usage",
    ]
    assert statistics["inference_stats"]["success"] == {"count": 0, "ns": 0}


def test_the_statistics_of_all_models_have_a_path_of_their_own(served: Served) -> None:
    answer = served.ask("GET", "/v2/models/stats")
    snapshot = VersionStatistics("echo", 1).snapshot()
    assert json.loads(answer.body)["model_stats"][0]["name"] == snapshot.name
    assert served.control.calls == [("statistics", "", None)]


# --- health ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
@pytest.mark.parametrize(("healthy", "status"), [(True, 200), (False, 400)])
def test_health_is_a_status_without_a_body(
    served: Served, path: str, healthy: bool, status: int
) -> None:
    served.control.live = served.control.ready = healthy
    answer = served.ask("GET", path)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.headers == {"Content-Type": "text/plain", "Content-Length": "0"}


def test_a_server_that_exits_says_so(served: Served) -> None:
    served.control.exiting = True
    for path in ("/v2/health/live", "/v2/health/ready"):
        answer = served.ask("GET", path)
        assert (answer.status, answer.error) == (503, "Server exiting")
    for method, path in (
        ("GET", "/v2"),
        ("GET", "/v2/models/echo"),
        ("GET", "/v2/models/echo/config"),
        ("GET", "/v2/models/stats"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/echo/load"),
    ):
        answer = served.ask(method, path)
        assert (answer.status, answer.error) == (503, "Server not ready")
    assert served.ask("POST", "/v2/models/echo/infer").status == 200


def test_a_model_that_is_not_ready_is_told_from_an_unknown_one(served: Served) -> None:
    served.control.ready = False
    answer = served.ask("GET", "/v2/models/echo/ready")
    assert (answer.status, answer.error) == (400, "Model version not ready")
    assert answer.headers["Content-Type"] == "text/plain"
    answer = served.ask("GET", "/v2/models/nope/versions/1/ready")
    assert (answer.status, answer.error) == (404, "Request for unknown model: 'nope' is not found")


# --- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/",
        "/v2/health",
        "/v2/health/started",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/echo/",
        "/v2/models/echo/nope",
        "/v2/models/echo/infer/",
        "/v2/models/echo/versions",
        "/v2/models/echo/versions/x",
        "/v2/models/echo/versions/-1/infer",
        "/v2/models/echo/versions/1/trace/setting",
        "/v2/repository",
        "/v2/repository/models/echo",
        "/v2/repository/models/echo/reload",
        "/v2/systemsharedmemory",
        "/v2/trace",
    ],
)
def test_other_paths_are_not_found(served: Served, path: str) -> None:
    answer = served.ask("GET", path)
    assert (answer.status, answer.error) == (404, "Not Found")
    assert answer.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("GET", "/v2/models/echo/infer", "text/plain"),
        ("POST", "/v2", "application/json"),
        ("POST", "/v2/health/live", "text/plain"),
        ("POST", "/v2/models/echo", "application/json"),
        ("DELETE", "/v2/models/echo/config", "application/json"),
        ("GET", "/v2/repository/index", "application/json"),
        ("GET", "/v2/repository/models/echo/load", "application/json"),
    ],
)
def test_the_wrong_method_is_not_allowed(
    served: Served, method: str, path: str, content_type: str
) -> None:
    answer = served.ask(method, path)
    assert (answer.status, answer.reason, answer.error) == (
        405,
        "Not Allowed",
        "Method Not Allowed",
    )
    assert answer.headers["Content-Type"] == content_type


def test_a_head_request_is_answered_without_a_body(served: Served) -> None:
    answer = served.ask("HEAD", "/v2/health/live")
    assert (answer.status, answer.body) == (405, b"")


def test_a_version_that_no_number_holds_is_refused(served: Served) -> None:
    answer = served.ask("GET", f"/v2/models/echo/versions/{'9' * 5000}/ready")
    assert answer.status == 400
    assert "version should be an integral value > 0" in answer.error


@pytest.mark.parametrize("quoted", ["a%2Fb", "%FF", "%00", "caf%C3%A9"])
def test_any_quoted_name_is_just_an_unknown_model(served: Served, quoted: str) -> None:
    answer = served.ask("GET", f"/v2/models/{quoted}/config")
    assert answer.status == 404
    assert answer.error.startswith("Request for unknown model: '")


def test_an_unexpected_failure_is_one_sentence_to_the_client_and_a_traceback_to_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    document = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}]}
    with caplog.at_level(logging.ERROR):
        answer = served.infer("crash", document)
    assert answer.status == 500
    assert "secret" not in answer.error
    assert "a secret of the implementation" in caplog.text


# --- repository -----------------------------------------------------------------------------------


def test_the_index_can_be_narrowed_to_what_is_ready(served: Served) -> None:
    assert served.ask("POST", "/v2/repository/index", b'{"ready": true}').status == 200
    assert served.ask("POST", "/v2/repository/any/index").status == 200
    assert served.control.calls == [("index", True), ("index", False)]
    answer = served.ask("POST", "/v2/repository/index", b'{"ready": 1}')
    assert (answer.status, answer.error) == (400, "Invalid value for 'ready': expected a boolean")


def test_a_repository_cannot_be_named_for_a_load(served: Served) -> None:
    answer = served.ask("POST", "/v2/repository/any/models/echo/load")
    assert (answer.status, answer.error) == (
        501,
        "'repository_name' specification is not supported",
    )


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"parameters": {"config": 1}}, 500, "attempt to access JSON non-string as string"),
        ({"parameters": {"other": "x"}}, 500, "unexpected error on creating Triton parameter"),
        ({"parameters": []}, 500, "attempt to get members for non-object"),
        (
            {"parameters": {"file:x": "a"}},
            400,
            "the value of load parameter 'file:x' is not base64 text",
        ),
    ],
)
def test_wrong_load_parameters_are_refused(
    served: Served, body: Any, status: int, message: str
) -> None:
    answer = served.ask("POST", "/v2/repository/models/echo/load", json.dumps(body))
    assert (answer.status, answer.error) == (status, message)
    assert served.control.calls == []


def test_malformed_load_requests_are_internal_errors(served: Served) -> None:
    answer = served.ask("POST", "/v2/repository/models/echo/load", b"{")
    assert answer.status == 500
    assert answer.error.startswith("failed to parse the request JSON buffer:")


def test_a_large_file_travels_with_a_load(served: Served) -> None:
    content = bytes(500_000)
    parameters = {"config": "{}", "file:1/model": base64.b64encode(content).decode()}
    body = json.dumps({"parameters": parameters})
    assert served.ask("POST", "/v2/repository/models/two%20words/load", body).status == 200
    assert served.control.calls == [
        ("load", "two words", {"config": "{}", "file:1/model": content})
    ]


def test_a_load_above_the_size_limit_is_refused(served: Served) -> None:
    answer = served.ask("POST", "/v2/repository/models/echo/load", bytes(1024 * 1024 + 1))
    assert answer.status == 400
    assert answer.error.endswith("Use --http-max-input-size to increase the limit.")


def test_a_failed_load_says_why(served: Served) -> None:
    served.control.failure = InvalidArgumentError("load failed for model 'echo': ...")
    answer = served.ask("POST", "/v2/repository/models/echo/load")
    assert (answer.status, answer.error) == (400, "load failed for model 'echo': ...")


def test_unload_dependents_must_be_a_boolean(served: Served) -> None:
    body = json.dumps({"parameters": {"unload_dependents": "yes"}})
    answer = served.ask("POST", "/v2/repository/models/echo/unload", body)
    assert (answer.status, answer.error) == (
        500,
        "Unable to parse 'unload_dependents': attempt to access JSON non-boolean as boolean",
    )


# --- connections ----------------------------------------------------------------------------------


def test_requests_follow_each_other_on_one_connection(served: Served) -> None:
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = served.exchange(request * 3 + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert answer.count(b"Connection: close\r\n") == 1


def test_http_1_0_is_spoken(served: Served) -> None:
    answer = served.exchange(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert b"Connection: close\r\n" in answer
    kept = b"GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answer = served.exchange(kept + b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert b"Connection: keep-alive\r\n" in answer
    assert answer.count(b" 200 OK\r\n") == 2


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /v2/models/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_an_error_of_the_usual_form(served: Served, data: bytes) -> None:
    answer = served.exchange(data)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_port_that_is_taken_is_said(served: Served, loop: Loop) -> None:
    second: Any = HttpServer(
        cast("Any", served.data),
        cast("Any", served.control),
        Access(Policy(), {}, "API"),
        address="127.0.0.1",
        port=served.port,
        reuse_port=False,
        max_input_size=1,
    )
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{served.port}"):
        loop.run(second.start())


def open_request(served: Served) -> socket.socket:
    body = b'{"inputs":[]}'
    client = socket.create_connection(("127.0.0.1", served.port), 10)
    client.sendall(
        b"POST /v2/models/never/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    assert served.data.started.wait(10)
    return client


def test_stopping_lets_a_running_request_finish(served: Served) -> None:
    address = ("127.0.0.1", served.port)
    with open_request(served) as client, socket.create_connection(address, 10) as idle:
        idle.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in idle.recv(65536)
        stopping = served.loop.start(served.server.stop(10))
        served.loop.run(asyncio.sleep(0))
        assert not stopping.done()
        served.loop.call(served.data.finish.set)
        stopping.result(10)
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer
        assert client.recv(1) == b""
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), 10)


def test_stopping_cancels_what_does_not_finish_in_time(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with open_request(served) as client:
        served.loop.run(served.server.stop(0.01))
        assert served.data.cancelled.wait(10)
        assert client.recv(65536) == b""
    assert "1 HTTP requests did not finish within 0.01 seconds" in caplog.text


# --- metrics --------------------------------------------------------------------------------------


def test_metrics_have_a_port_of_their_own(served: Served, loop: Loop) -> None:
    texts = iter(["nv_x 1\n"])

    def render() -> str:
        return next(texts)

    server = MetricsServer(render, Access(Policy(), {}, "API"), "127.0.0.1", 0)
    metrics = dataclasses.replace(served, port=loop.run(server.start()))
    try:
        answer = metrics.ask("GET", "/metrics")
        assert (answer.status, answer.body) == (200, b"nv_x 1\n")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        answer = metrics.ask("GET", "/other")
        assert (answer.status, answer.body) == (200, b"")
        answer = metrics.ask("POST", "/metrics")
        assert (answer.status, answer.error) == (405, "Method Not Allowed")
        answer = metrics.ask("GET", "/metrics/")
        assert (answer.status, answer.error) == (
            500,
            "the metrics cannot be rendered; the log says why",
        )
    finally:
        loop.run(server.stop())
