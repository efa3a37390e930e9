"""What passes between a terminal's process and its server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import msgspec
import pytest

from tritonpy.ipc import foreground
from tritonpy.ipc.foreground import Attach, Ended, Kill

ATTACH = Attach("m_0", ("/bin/python", "-P"), {"PATH": "/bin"}, {"MARK": "x"})


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = foreground.pair()
    yield pair
    for end in pair:
        end.close()


@pytest.mark.parametrize("message", [ATTACH, Kill(), Ended(-9)])
def test_a_message_arrives_as_it_was_sent(
    ends: tuple[socket.socket, socket.socket], message: foreground.Message
) -> None:
    foreground.send(ends[0], message)
    assert foreground.receive(ends[1]) == (message, [])


def test_descriptors_arrive_with_their_message_and_are_not_inherited(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    read, write = os.pipe()
    foreground.send(ends[0], ATTACH, (read, write))
    received = foreground.receive(ends[1])
    assert received is not None
    _message, descriptors = received
    os.write(descriptors[1], b"x")
    assert os.read(read, 1) == b"x"
    assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
    for descriptor in (read, write, *descriptors):
        os.close(descriptor)


def test_the_end_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].close()
    assert foreground.receive(ends[1]) is None
    with pytest.raises(OSError, match="Broken pipe"):
        foreground.send(ends[1], Kill())


def test_a_message_that_makes_no_sense_is_refused(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].send(b"nonsense")
    with pytest.raises(msgspec.DecodeError):
        foreground.receive(ends[1])


def test_a_large_environment_passes(ends: tuple[socket.socket, socket.socket]) -> None:
    large = Attach("m_0", (), {f"NAME_{number}": "x" * 1000 for number in range(100)}, {})
    foreground.send(ends[0], large)
    assert foreground.receive(ends[1]) == (large, [])
