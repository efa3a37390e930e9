"""Descriptors arrive under their numbers, whatever the order in which they are asked for."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator

import pytest

from tritonpy.ipc.descriptors import DescriptorInbox, send_descriptor

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def send_file(ours: socket.socket, number: int) -> None:
    """Send a file that holds its own number."""
    descriptor = os.memfd_create("tritonpy-test")
    os.write(descriptor, str(number).encode())
    send_descriptor(ours, number, descriptor)
    os.close(descriptor)


def content(descriptor: int) -> int:
    try:
        return int(os.pread(descriptor, 32, 0))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 2, 1], [2, 3, 1]])
def test_descriptors_are_handed_out_in_any_order(ends: Ends, order: list[int]) -> None:
    ours, theirs = ends
    for number in (1, 2, 3):
        send_file(ours, number)
    inbox = DescriptorInbox(theirs)

    assert [content(inbox.take(number)) for number in order] == order


def test_large_numbers_arrive_whole(ends: Ends) -> None:
    ours, theirs = ends
    send_file(ours, 2**63)

    assert content(DescriptorInbox(theirs).take(2**63)) == 2**63


def test_what_is_received_is_not_inherited_by_programs(ends: Ends) -> None:
    ours, theirs = ends
    send_file(ours, 1)

    descriptor = DescriptorInbox(theirs).take(1)

    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_the_sender_keeps_its_own_descriptor(ends: Ends) -> None:
    ours, theirs = ends
    descriptor = os.memfd_create("tritonpy-test")
    send_descriptor(ours, 1, descriptor)

    os.close(DescriptorInbox(theirs).take(1))

    os.close(descriptor)


def test_a_supervisor_that_is_gone_is_an_error(ends: Ends) -> None:
    ours, theirs = ends
    ours.close()

    with pytest.raises(ConnectionError, match="the supervisor closed the lifeline"):
        DescriptorInbox(theirs).take(1)


def test_a_message_without_its_descriptor_is_an_error_that_says_why(ends: Ends) -> None:
    ours, theirs = ends
    ours.send((7).to_bytes(8, "little"))  # as when the receiver may open no more files

    with pytest.raises(OSError, match=r"descriptor 7 .* did not arrive: .* ulimit -n"):
        DescriptorInbox(theirs).take(7)


def test_a_worker_that_does_not_read_never_blocks_the_supervisor(ends: Ends) -> None:
    ours, _theirs = ends
    ours.setblocking(False)
    descriptor = os.memfd_create("tritonpy-test")

    def send_for_ever() -> None:
        for number in itertools.count():
            send_descriptor(ours, number, descriptor)

    with pytest.raises(BlockingIOError):
        send_for_ever()
    os.close(descriptor)
