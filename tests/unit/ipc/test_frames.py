"""Frames come whole and in order, however the stream cuts them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import cycle, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.frames import BUFFER_BYTES, FrameReader, framed

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def taken(reader: FrameReader) -> list[bytes]:
    """Everything that has arrived completely."""
    frames: list[bytes] = []
    while (frame := reader.take()) is not None:
        frames.append(frame)
    return frames


def carried(
    stream: bytes, pieces: Iterator[int], theirs: socket.socket, reader: FrameReader
) -> list[bytes]:
    """What a reader makes of a stream that arrives in such pieces."""
    frames, sent = list[bytes](), 0
    while sent < len(stream):
        sent += theirs.send(stream[sent : sent + next(pieces)])
        while True:
            try:
                reader.fill()
            except BlockingIOError:
                break
            frames += taken(reader)
    return frames


@given(
    sizes=st.lists(
        st.one_of(
            st.integers(0, 300),
            st.sampled_from(
                [BUFFER_BYTES - 5, BUFFER_BYTES - 4, BUFFER_BYTES - 3, 2 * BUFFER_BYTES]
            ),
            st.just(20 * BUFFER_BYTES),
        ),
        max_size=12,
    ),
    pieces=st.lists(st.integers(1, 3 * BUFFER_BYTES), min_size=1),
)
def test_messages_come_whole_and_in_order(sizes: list[int], pieces: list[int]) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    stream = b"".join(map(framed, messages))
    # Tiny pieces of a large stream show nothing that those of a small one do not.
    least = len(stream) // 500 + 1
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        cut = (max(least, length) for length in cycle(pieces))
        assert carried(stream, cut, theirs, FrameReader(ours)) == messages


def test_one_read_brings_everything_that_has_arrived(pair: Pair) -> None:
    ours, theirs = pair
    reader = FrameReader(ours)
    theirs.sendall(framed(b"one") + framed(b"") + framed(b"three"))

    reader.fill()

    assert taken(reader) == [b"one", b"", b"three"]


def test_a_message_does_not_change_when_the_next_one_arrives(pair: Pair) -> None:
    ours, theirs = pair
    reader = FrameReader(ours)
    theirs.sendall(framed(b"first"))
    reader.fill()
    first = reader.take()
    assert reader.take() is None

    theirs.sendall(framed(b"other"))
    reader.fill()

    assert (first, reader.take()) == (b"first", b"other")


def test_a_length_alone_takes_no_memory(pair: Pair) -> None:
    ours, theirs = pair
    reader = FrameReader(ours)
    stream = b"\xff\xff\xff\xff" + bytes(BUFFER_BYTES)

    assert carried(stream, repeat(len(stream)), theirs, reader) == []

    assert len(reader._buffer) == 2 * BUFFER_BYTES  # pyright: ignore[reportPrivateUsage]


def test_the_memory_of_a_huge_message_is_given_back(pair: Pair) -> None:
    ours, theirs = pair
    reader = FrameReader(ours)
    message = bytes(range(256)) * 8 * 1024

    assert carried(framed(message), repeat(len(message)), theirs, reader) == [message]

    assert len(reader._buffer) == BUFFER_BYTES  # pyright: ignore[reportPrivateUsage]


def test_the_end_comes_after_everything_that_was_sent(pair: Pair) -> None:
    ours, theirs = pair
    reader = FrameReader(ours)
    theirs.sendall(framed(b"last words") + framed(b"cut off")[:-1])
    theirs.close()

    reader.fill()
    assert taken(reader) == [b"last words"]

    with pytest.raises(ConnectionError):
        reader.fill()


def test_nothing_to_read_is_said_at_once(pair: Pair) -> None:
    ours, theirs = pair
    ours.setblocking(True)
    reader = FrameReader(ours)

    with pytest.raises(BlockingIOError):
        reader.fill(socket.MSG_DONTWAIT)

    theirs.sendall(framed(b"now"))
    reader.fill(socket.MSG_DONTWAIT)
    assert reader.take() == b"now"
