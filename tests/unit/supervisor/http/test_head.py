"""Heads of requests: which are plain, and which of these are inferences for the lean path."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.http.head import MOST_BYTES, Head, Inference, may_begin, parse


def head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n"


INFER = b"POST /v2/models/m/infer HTTP/1.1"


def test_an_inference_says_whom_it_is_for_and_how_its_body_is_parted() -> None:
    data = head(
        b"POST /v2/models/my-model_1.x/versions/12/infer HTTP/1.1",
        b"Host: x",
        b"inference-HEADER-content-length:  30\t",
        b"Content-Length: 94",
    )
    assert parse(data) == Head(
        94,
        Inference(
            "my-model_1.x",
            12,
            30,
            (
                (b"Host", b"x"),
                (b"inference-HEADER-content-length", b"30"),
                (b"Content-Length", b"94"),
            ),
        ),
    )


def test_without_a_version_and_a_header_length_both_are_left_open() -> None:
    found = parse(head(INFER, b"Content-Length: 3"))
    assert found is not None
    assert found.inference is not None
    assert found.inference[:3] == ("m", None, None)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v2/models/m/infer HTTP/1.1",
        b"POST /v2/models/m/infer HTTP/1.0",
        b"POST /v2/models/m/infer?x=1 HTTP/1.1",
        b"POST /v2/models/a%20b/infer HTTP/1.1",
        b"POST /v2/models/../infer HTTP/1.1",
        b"POST /v2/models/m/versions/stable/infer HTTP/1.1",
        b"POST /v2/models/m/generate HTTP/1.1",
        b"POST /v2/models/m/infer/ HTTP/1.1",
        b"DELETE / HTTP/1.1",
    ],
)
def test_other_requests_are_plain_and_not_for_the_lean_path(line: bytes) -> None:
    assert parse(head(line, b"Content-Length: 7")) == Head(7, None)


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Encoding: gzip",
        b"Expect: a miracle",
        b"Accept-Encoding: gzip, deflate",
        b"Connection: close",
        b"Inference-Header-Content-Length: 8",
        b"Inference-Header-Content-Length: -1",
        b"Inference-Header-Content-Length: 3x",
        b"Inference-Header-Content-Length:",
    ],
)
def test_what_needs_more_thought_is_not_for_the_lean_path(field: bytes) -> None:
    assert parse(head(INFER, b"Content-Length: 7", field)) == Head(7, None)


def test_a_request_without_a_body_has_none() -> None:
    assert parse(head(b"GET /v2 HTTP/1.1", b"Host: x")) == Head(0, None)
    assert parse(head(INFER, b"Host: x")) == Head(0, None)


@pytest.mark.parametrize(
    "data",
    [
        head(INFER, b"Content-Length: 7", b"Content-Length: 7"),
        head(INFER, b"Content-Length: 7, 7"),
        head(INFER, b"Content-Length: +7"),
        head(INFER, b"Content-Length: 0x7"),
        head(INFER, b"Content-Length: 1" + b"0" * 15),
        head(INFER, b"Content-Length:"),
        head(INFER, b"Content-Length: 7", b"Transfer-Encoding: chunked"),
        head(INFER, b"Transfer-Encoding : chunked"),
        head(INFER, b"Upgrade: h2c", b"Content-Length: 7"),
        head(INFER, b"Connection: Upgrade", b"Content-Length: 7"),
        head(INFER, b"Connection: keep-alive, x", b"Content-Length: 7"),
        head(INFER, b"Host: x", b"Host: y", b"Content-Length: 7"),
        head(INFER, b"Content-Length: 7", b" folded"),
        head(INFER, b"Content-Length: 7", b"no colon"),
        head(INFER, b"Content-Length: 7", b": no name"),
        head(INFER, b"Content-Length: 7", b"X: a\rb"),
        head(INFER, b"Content-Length: 7", b"X: a\nTransfer-Encoding: chunked"),
        head(INFER, b"Content-Length: 7", b"X: a\0"),
        head(b"POST  /v2/models/m/infer HTTP/1.1", b"Content-Length: 7"),
        head(b"post /v2/models/m/infer HTTP/1.1", b"Content-Length: 7"),
        head(b"POST /v2/models/m/infer HTTP/2.0", b"Content-Length: 7"),
        head(b"POST http://x/v2 HTTP/1.1", b"Content-Length: 7"),
        head(b"CONNECT /v2 HTTP/1.1"),
        head(b""),
    ],
)
def test_where_a_request_ends_in_doubt_is_not_said(data: bytes) -> None:
    assert parse(data) is None


@pytest.mark.parametrize("data", [b"P", b"POST", b"POST ", b"POST /v2 HTTP/1.1\r\nHost: x\r\n"])
def test_the_beginning_of_a_head_is_waited_on(data: bytes) -> None:
    assert may_begin(data)


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01", b"post", b"hello\r\n", b"GET\t", b"GET /\0", b"GET " + b"/" * MOST_BYTES],
)
def test_what_will_never_be_a_plain_head_is_not_waited_on(data: bytes) -> None:
    assert not may_begin(data)


def test_a_client_may_wait_to_be_asked_for_the_body() -> None:
    found = parse(head(INFER, b"Content-Length: 7", b"Expect: 100-Continue"))
    assert found is not None
    assert found.inference is not None
    assert found.inference.waits
    found = parse(head(INFER, b"Content-Length: 7"))
    assert found is not None
    assert found.inference is not None
    assert not found.inference.waits
