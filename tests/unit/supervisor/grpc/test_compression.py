"""Compression of messages, and which one a client gets."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from tritonpy.supervisor.grpc.compression import (
    ENCODINGS,
    Encoding,
    choose,
    compress,
    decompress,
    decompress_some,
)
from tritonpy.supervisor.grpc.messages import MessageFailed
from tritonpy.supervisor.grpc.status import Status
from tritonpy.supervisor.settings import CompressionLevel


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_compressed_can_be_decompressed(encoding: Encoding) -> None:
    data = compress((b"a" * 1000, memoryview(b"b" * 1000)), encoding)
    assert len(data) < 100
    assert decompress(data, encoding) == b"a" * 1000 + b"b" * 1000


def test_the_forms_are_those_of_everybody() -> None:
    assert gzip.decompress(compress((b"x",), "gzip")) == b"x"
    assert zlib.decompress(compress((b"x",), "deflate")) == b"x"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("length", [0, 5, 20])
def test_what_is_broken_is_refused(encoding: Encoding, length: int) -> None:
    data = compress((bytes(range(256)),), encoding)[:length]
    with pytest.raises(MessageFailed, match="Decompression failed") as found:
        decompress(data, encoding)
    assert found.value.status is Status.INTERNAL


def test_no_more_is_decompressed_than_wanted() -> None:
    data = compress((bytes(1000),), "gzip")
    assert decompress_some(data, "gzip", 999) is None
    assert decompress_some(data, "gzip", 1000) == bytes(1000)
    bomb = compress((bytes(20_000_000),), "gzip")
    tracemalloc.start()
    assert decompress_some(bomb, "gzip", 1000) is None
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize(
    ("level", "accepted", "chosen"),
    [
        ("none", {"gzip", "deflate"}, None),
        ("low", {"gzip", "deflate", "identity"}, "gzip"),
        ("medium", {"gzip", "deflate"}, "deflate"),
        ("high", {"gzip", "deflate"}, "deflate"),
        ("high", {"gzip"}, "gzip"),
        ("low", {"deflate"}, "deflate"),
        ("high", {"br", ""}, None),
    ],
)
def test_the_level_chooses_among_what_the_client_takes(
    level: CompressionLevel, accepted: set[str], chosen: Encoding | None
) -> None:
    assert choose(level, accepted) == chosen
