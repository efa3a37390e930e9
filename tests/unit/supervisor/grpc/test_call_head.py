"""What a call says before its messages."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.grpc.call_head import CallHead, read
from tritonpy.supervisor.grpc.status import Status
from tritonpy.supervisor.http2.errors import StreamFailed

FIELDS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


def head(*fields: tuple[bytes, bytes]) -> CallHead[int]:
    return read([*FIELDS, *fields], {"/a.B/C": 7})


def test_a_plain_call() -> None:
    assert head() == CallHead(7, (), None, None, frozenset({""}), None, 200, None)


def test_a_path_that_there_is_not() -> None:
    assert read([*FIELDS[:2], (b":path", b"/x"), *FIELDS[3:]], {"/a.B/C": 7}).method is None


def test_everything_else_is_metadata() -> None:
    found = head(
        (b"user-agent", b"me"),
        (b"accept-encoding", b"gzip"),
        (b"grpc-reserved", b"x"),
        (b"a", b"1"),
        (b"a", "ä".encode()),
        (b"b", b"\xe9"),
        (b"c-bin", b"AP8"),
        (b"d-bin", b"AP8="),
    )
    assert found.metadata == (
        ("user-agent", "me"),
        ("a", "1"),
        ("a", "ä"),
        ("b", "é"),
        ("c-bin", b"\0\xff"),
        ("d-bin", b"\0\xff"),
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"2H", 7200),
        (b"3M", 180),
        (b"99999999S", 99_999_999),
        (b"5m", 0.005),
        (b"7u", 7e-6),
        (b"1n", 1e-9),
    ],
)
def test_a_deadline_has_a_unit(value: bytes, seconds: float) -> None:
    assert head((b"grpc-timeout", value)).timeout == pytest.approx(seconds)


def test_compression_is_told_both_ways() -> None:
    found = head((b"grpc-encoding", b"gzip"), (b"grpc-accept-encoding", b"identity, deflate,gzip"))
    assert found.encoding == "gzip"
    assert set(found.accepted) == {"identity", "deflate", "gzip"}
    assert head((b"grpc-encoding", b"identity")).encoding is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"grpc-timeout", b"5"),
        (b"grpc-timeout", b"-5S"),
        (b"grpc-timeout", b"123456789S"),
        (b"grpc-timeout", b"5x"),
        (b"grpc-encoding", b"br"),
        (b"x-bin", b"!!"),
        (b"x-bin", b"A"),
    ],
)
def test_what_cannot_be_read_fails_the_call(name: bytes, value: bytes) -> None:
    failure = head((name, value)).failure
    assert failure is not None
    assert (failure.status, failure.text) == (
        Status.INTERNAL,
        f"Error parsing '{name.decode()}' metadata",
    )


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"application/grpc+proto", 200),
        (b"Application/gRPC", 200),
        (b"application/json", 415),
        (b"", 415),
    ],
)
def test_what_is_no_grpc_is_told_so(content_type: bytes, status: int) -> None:
    assert read([*FIELDS[:4], (b"content-type", content_type)], {"": 0}).http_status == status


def test_calls_are_posts() -> None:
    with pytest.raises(StreamFailed):
        read([(b":method", b"GET"), *FIELDS[1:]], {"": 0})
