"""Which fields a request may have."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.http2.errors import StreamFailed
from tritonpy.supervisor.http2.fields import check_trailers, request, size

PSEUDO = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a")]


def test_a_request_is_taken_apart() -> None:
    found = request([*PSEUDO, (b":authority", b"me"), (b"te", b"trailers"), (b"x", b"1 2")])
    assert (found.method, found.path, found.authority, found.length) == (
        b"POST",
        b"/a",
        b"me",
        None,
    )
    assert found.fields == ((b"te", b"trailers"), (b"x", b"1 2"))


def test_its_length_is_read() -> None:
    length = (b"content-length", b"12")
    assert request([*PSEUDO, length, length]).length == 12


@pytest.mark.parametrize(
    "fields",
    [
        PSEUDO[1:],
        PSEUDO[:2],
        [*PSEUDO[:2], (b":path", b"")],
        [*PSEUDO, PSEUDO[0]],
        [*PSEUDO, (b":status", b"200")],
        [*PSEUDO[:2], (b"x", b"y"), PSEUDO[2]],
        [*PSEUDO[:2], (b":path", b"/\r\n")],
        [*PSEUDO, (b"X", b"y")],
        [*PSEUDO, (b"", b"y")],
        [*PSEUDO, (b"a b", b"y")],
        [*PSEUDO, (b"a:b", b"y")],
        [*PSEUDO, ("ä".encode(), b"y")],
        [*PSEUDO, (b"x", b"a\nb")],
        [*PSEUDO, (b"x", b"a\0b")],
        [*PSEUDO, (b"x", b" a")],
        [*PSEUDO, (b"x", b"a\t")],
        [*PSEUDO, (b"connection", b"close")],
        [*PSEUDO, (b"transfer-encoding", b"chunked")],
        [*PSEUDO, (b"te", b"gzip")],
        [*PSEUDO, (b"content-length", b"-1")],
        [*PSEUDO, (b"content-length", b"1"), (b"content-length", b"2")],
        [*PSEUDO, (b"content-length", b"9" * 30)],
    ],
)
def test_malformed_requests_are_refused(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(StreamFailed):
        request(fields)


def test_trailers_are_plain_fields() -> None:
    check_trailers([(b"x", b"y")])
    for wrong in ((b":path", b"/"), (b"X", b"y")):
        with pytest.raises(StreamFailed):
            check_trailers([wrong])


def test_each_field_counts_for_more_than_its_bytes() -> None:
    assert size([(b"a", b"bc"), (b"d", b"")]) == 68
