"""Messages in the content of HTTP/2, in whatever pieces they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.grpc.messages import MessageFailed, MessageReader, prefix
from tritonpy.supervisor.grpc.status import Status


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=5),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_messages_are_put_together(sent: list[tuple[bytes, bool]], sizes: list[int]) -> None:
    data = b"".join(prefix(len(one), compressed=flag) + one for one, flag in sent)
    reader, found, at = MessageReader(), [], 0
    for size in [*sizes, len(data)]:
        stop = min(at + size, len(data))
        found += reader.feed(b"front" + data + b"back", 5 + at, 5 + stop)
        at = stop
    assert [(bytes(one.data), one.compressed) for one in found] == sent
    assert reader.is_between


def test_what_is_missing_of_a_message_is_known() -> None:
    reader = MessageReader()
    data = prefix(100) + bytes(30)
    assert not reader.feed(data, 0, 3)
    assert (reader.missing, reader.is_between) == (0, False)
    assert not reader.feed(data, 3, len(data))
    assert (reader.missing, reader.is_between) == (70, False)
    assert repr(reader) == "<MessageReader 70 bytes to come>"


def test_a_message_that_is_too_large_is_refused_by_its_length() -> None:
    with pytest.raises(
        MessageFailed, match=r"larger than max \(4294967295 vs\. 2147483647\)"
    ) as found:
        MessageReader().feed(b"\0\xff\xff\xff\xff", 0, 5)
    assert found.value.status is Status.RESOURCE_EXHAUSTED


def test_a_message_that_memory_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", empty)
    with pytest.raises(MessageFailed, match="no memory for a message of 65536 bytes"):
        MessageReader().feed(b"\0\0\1\0\0x", 0, 6)
