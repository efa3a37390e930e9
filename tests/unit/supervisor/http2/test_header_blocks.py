"""Blocks of fields: what was seen before is not decoded again, unless the table has changed."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.http2.errors import ConnectionFailed, ErrorCode, StreamFailed
from tritonpy.supervisor.http2.fields import Fields
from tritonpy.supervisor.http2.header_blocks import BlockReader, block, trailers

LIST = [(b":method", b"POST"), (b"x-number", b"1")]


class Made:
    """What a block was made into."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields


def test_a_block_that_comes_again_is_not_decoded_again() -> None:
    encoder, reader = Encoder(), BlockReader(Made, 1000)
    first = reader.read(encoder.encode(LIST))
    second, third = reader.read(encoder.encode(LIST)), reader.read(encoder.encode(LIST))
    assert first.fields == second.fields == LIST
    assert third is second


def test_a_block_means_something_else_once_the_table_has_changed() -> None:
    encoder, reader = Encoder(), BlockReader(Made, 1000)
    encoder.encode(LIST)
    reader.read(Encoder().encode(LIST))
    indexed = encoder.encode(LIST)
    assert reader.read(indexed).fields == LIST
    reader.read(encoder.encode([(b"x-number", b"2")]))
    assert reader.read(indexed).fields == [(b":method", b"POST"), (b"x-number", b"2")]


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.binary(max_size=30)), max_size=3)
        | st.integers(0, 200),
        max_size=30,
    )
)
def test_what_is_remembered_is_always_what_would_be_decoded(steps: list[Fields | int]) -> None:
    encoder, decoder, reader = Encoder(), Decoder(), BlockReader(Made, 10_000)
    for step in steps:
        if isinstance(step, int):
            encoder.header_table_size = step
            continue
        encoded = encoder.encode(step, huffman=False)
        decoded = [(bytes(name), bytes(value)) for name, value in decoder.decode(encoded, raw=True)]
        assert reader.read(encoded).fields == decoded == step


def test_a_list_that_is_too_long_fails_its_stream_and_keeps_the_table() -> None:
    encoder, reader = Encoder(), BlockReader(Made, 100)
    with pytest.raises(StreamFailed) as caught:
        reader.read(encoder.encode([*LIST, (b"long", b"x" * 100)]))
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert reader.read(encoder.encode(LIST)).fields == LIST


def test_a_list_that_is_far_too_long_fails_the_connection() -> None:
    encoder, reader = Encoder(), BlockReader(Made, 100)
    bomb = encoder.encode([(b"long", b"x" * 90)]) + b"\xbe" * 50
    with pytest.raises(ConnectionFailed) as caught:
        reader.read(bomb)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_blocks_are_forgotten_when_there_are_many_of_them() -> None:
    reader = BlockReader(Made, 1000)
    first = reader.read(b"\0\1a\1b")
    assert reader.read(b"\0\1a\1b") is first
    for number in range(100):
        reader.read(b"\0\1a\3%03d" % number)
    assert reader.read(b"\0\1a\1b") is not first


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 300, 20_000])
def test_blocks_of_ours_can_be_read_by_anybody(length: int) -> None:
    value = "v" * length
    decoder = Decoder()

    def decode(data: bytes) -> list[tuple[str, ...]]:
        return [tuple(map(str, field)) for field in decoder.decode(data)]

    assert decode(block(200, [("a", value)])) == [(":status", "200"), ("a", value)]
    assert decode(block(415, ())) == [(":status", "415")]
    assert decode(trailers([("a", value), ("b", "")])) == [("a", value), ("b", "")]
    assert not decoder.header_table.dynamic_entries
