"""Malformed HTTP requests: refused, and forgotten."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import connect, encode_request
from support.servers import RunningServer

_MODELS = ("numbers", "batches", "texts", "python", "square", "nope")
_PATHS = [
    *(f"/v2/models/{model}/{verb}" for model in _MODELS for verb in ("infer", "generate")),
    *("/v2/models/square/generate_stream", "/v2/models/numbers/versions/1/infer"),
    *("/v2/repository/index", "/v2/repository/models/numbers/load", "/v2/logging"),
    *("/v2/trace/setting", "/v2/models/numbers/trace/setting", "/v2/models/stats"),
    *("/v2/systemsharedmemory/region/r/register", "/v2/cudasharedmemory/region/r/register"),
    *("/v2/systemsharedmemory/status", "/v2/systemsharedmemory/region/r/unregister"),
]
#: 500 is Triton's answer where its JSON layer gives up, and where a segment cannot be opened.
_TRITONS_500 = re.compile(
    r"failed to parse the request JSON buffer|[Uu]nable to parse|Failed to parse|Unable to set|"
    r"attempt to (access|get)|unexpected error on creating Triton parameter|"
    r"Unable to open shared memory region|failed to get request|is not valid UTF-8|"
    r"shared memory size specified|failed to poll"
)
_TRITONS_503 = "explicit model load / unload is not allowed if polling is enabled"

_SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.sampled_from(["", "INPUT0", "IN", "FP32", "BYTES", "r", "\ud800", "x" * 300])
    | st.text(max_size=8)
)
_JUNK = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "shape", "data", "parameters", ""]), inner)
    ),
    max_leaves=8,
)
_PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            *("binary_data_size", "classification", "binary_data", "shared_memory_region"),
            *("shared_memory_byte_size", "shared_memory_offset", "sequence_id", "sequence_start"),
            *("priority", "timeout", "triton_x", "binary_data_output", "headers"),
        ]
    ),
    _SCALARS,
    max_size=3,
)
_INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("INPUT0") | _JUNK,
        "datatype": st.sampled_from(["FP32", "BYTES", "BF16", "INT32"]) | _JUNK,
        "shape": st.lists(st.integers(-2, 5) | st.integers(0, 2**64), max_size=4) | _JUNK,
        "data": st.lists(st.integers(-3, 3) | st.floats(), max_size=6) | _JUNK,
        "parameters": _PARAMETERS | _JUNK,
    },
)
_DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=5) | _JUNK,
        "inputs": st.lists(_INPUT, max_size=3) | _JUNK,
        "outputs": st.lists(
            st.fixed_dictionaries(
                {}, optional={"name": st.just("OUTPUT0") | _JUNK, "parameters": _PARAMETERS}
            ),
            max_size=2,
        )
        | _JUNK,
        "parameters": _PARAMETERS | _JUNK,
        "INPUT0": _JUNK,
        "key": _JUNK,
        "byte_size": _JUNK,
        "raw_handle": _JUNK,
        "trace_level": _JUNK,
        "log_format": _JUNK,
        "ready": _JUNK,
    },
)


def _damaged(data: bytes, at: float, piece: bytes, cut: int) -> bytes:
    place = int(at * len(data))
    return data[:place] + piece + data[place + cut :]


def _encode(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


_BODIES = st.one_of(
    _DOCUMENT.map(_encode),
    st.builds(
        _damaged,
        _DOCUMENT.map(_encode),
        st.floats(0, 1),
        st.binary(max_size=4),
        st.integers(0, 5),
    ),
    st.binary(max_size=64),
)
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Inference-Header-Content-Length": st.sampled_from(
            ["0", "1", "10", "-1", "x", "99999999999999", "", "0x10", "1e3"]
        ),
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "", "identity", "gzip,gzip"]),
        "Accept-Encoding": st.sampled_from(["gzip", "deflate;q=0.5", "*;q=x", "br", ";;;"]),
        "Content-Type": st.sampled_from(["application/json", "x", ""]),
        "Transfer-Encoding": st.sampled_from(["chunked", "x, chunked", "gzip"]),
        "Expect": st.sampled_from(["100-continue", "x"]),
    },
)
_METHODS = st.sampled_from(["POST"] * 8 + ["GET", "PUT", "HEAD", "DELETE", "PATCH", "FOO"])
_CHUNKS = st.sampled_from(
    [b"4\r\nabcd\r\n0\r\n\r\n", b"zz\r\n", b"5\r\nab", b"-1\r\n\r\n", b"0\r\n\r\n"]
)


@st.composite
def _questions(draw: st.DrawFn) -> bytes:
    body = draw(_BODIES)
    headers: dict[str, str | None] = {**draw(_HEADERS)}
    if headers.get("Content-Encoding") == "gzip" and draw(st.booleans()):
        body = gzip.compress(body)
    if "Transfer-Encoding" in headers:
        body = draw(_CHUNKS)
    headers["Connection"] = "close"
    path = draw(st.sampled_from(_PATHS) | st.text("/v2models%{}. é", max_size=20).map("/".__add__))
    return encode_request(draw(_METHODS), path.encode("utf-8").decode("latin-1"), body, headers)


def _answer_of(server: RunningServer, question: bytes) -> bytes:
    """What comes back until the server closes or has answered; it is asked to close."""
    with closing(connect(server)) as connection:
        connection.sendall(question)
        if b"Transfer-Encoding" in question:  # what is cut off would be waited for
            connection.shutdown(socket.SHUT_WR)
        pieces: list[bytes] = []
        try:
            while piece := connection.recv(65536):
                pieces.append(piece)
        except ConnectionResetError:
            pass
    return b"".join(pieces)


def _check(answer: bytes, question: bytes) -> None:
    if not answer:
        return  # closed: the question was no request, or cut off in the middle
    status = int(answer.split(b" ", 2)[1])
    text = answer.decode("utf-8", "replace")
    if status == 500:
        assert _TRITONS_500.search(text), (question, text)
    elif status == 503:
        assert _TRITONS_503 in text, (question, text)
    else:
        assert status < 500 or status == 501, (question, text)


def test_malformed_requests_are_refused_and_harm_nobody(
    server: RunningServer, ask_nonsense: Callable[[Callable[[], None]], None]
) -> None:
    @settings(settings.get_profile("fuzz"))
    @given(_questions())
    def ask(question: bytes) -> None:
        _check(_answer_of(server, question), question)

    ask_nonsense(ask)
