"""Whatever a client sends, and in whatever pieces: the server answers HTTP/2, and holds its rules.

The other side is the h2 library, which refuses frames that a server may not send.
"""

from __future__ import annotations

from typing import Any

import h2.events
import h2.exceptions
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.http2 import BEGINNING, ENDING, REQUEST, End, Received, frame, frames_of, h2_client

from tritonpy.supervisor.http2.frames import PREFACE
from tritonpy.supervisor.http2.limits import Limits
from tritonpy.supervisor.http2.states import State

LIMITS = Limits(streams=20, window=30_000, connection_window=80_000, held=100_000)

HELLO = PREFACE + frame(4)
BLOCKS = [b"", b"\x83\x86\x84\x41\x01x", b"\x83\x86", b"\x3f\xe1\x1f", b"\x40\x01a\x01b", b"\xbe"]

FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.sampled_from(BLOCKS) | st.binary(max_size=12),
    st.sampled_from([0, 1, 4, 5, 5, 8, 13, 32, 37]) | st.integers(0, 255),
    st.sampled_from([0, 1, 3, 5, 7]) | st.integers(0, 2**31 - 1),
)


def _pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found: list[bytes] = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


@settings(max_examples=300)
@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(0, 40), max_size=8))
def test_any_frames_in_any_pieces_mean_the_same(frames: list[bytes], sizes: list[int]) -> None:
    data = HELLO + b"".join(frames)
    whole, pieced = End(LIMITS), End(LIMITS)
    whole.receive(data)
    for piece in _pieces(data, sizes):
        pieced.receive(piece)
    found = [_seen(end) for end in (whole, pieced)]
    assert found[0] == found[1]
    for number, request in enumerate(whole.requests):
        whole.answer(request, bytes(number))
    frames_of(whole.output())


def _seen(end: End) -> Any:
    requests = [(one.head, one.content, one.is_whole, one.is_withdrawn) for one in end.requests]
    return requests, end.output(), end.connection.is_ended


class Conversation(RuleBasedStateMachine):
    """A client that keeps to the rules and a server that answers as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.client = h2_client()
        self.server = End(LIMITS)
        self.sent: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.given_up: set[int] = set()
        self.answers: dict[int, bytes] = {}
        self.got: dict[int, bytes] = {}
        self.finished: set[int] = set()
        self.begun: set[int] = set()

    @property
    def open(self) -> list[int]:
        """Streams on which the client may still send."""
        return [n for n in self.sent if n not in self.ended | self.given_up | self.finished]

    @property
    def answerable(self) -> list[Received]:
        """Requests whose answers have not ended."""
        return [one for one in self.server.requests if one.stream.server_may_send]

    @precondition(lambda self: self.client.open_outbound_streams < 20)
    @rule(ends=st.booleans())
    def ask(self, ends: bool) -> None:
        number = self.client.get_next_available_stream_id()
        self.client.send_headers(number, [*REQUEST, ("x", str(number % 3))], end_stream=ends)
        self.sent[number] = b""
        if ends:
            self.ended.add(number)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), size=st.integers(0, 20_000), ends=st.booleans())
    def send(self, data: st.DataObject, size: int, ends: bool) -> None:
        number = data.draw(st.sampled_from(self.open))
        size = min(size, self.client.local_flow_control_window(number), 16_384)
        if size <= 0 and not ends:
            return
        content = bytes((number % 251,)) * max(size, 0)
        self.client.send_data(number, content, end_stream=ends, pad_length=None)
        self.sent[number] += content
        if ends:
            self.ended.add(number)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.open))
        self.client.reset_stream(number)
        self.given_up.add(number)

    @rule(window=st.integers(0, 70_000), frame_size=st.sampled_from([16_384, 20_000]))
    def change_settings(self, window: int, frame_size: int) -> None:
        self.client.update_settings(
            {
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: frame_size,
            }
        )

    @rule(size=st.integers(1, 50_000))
    def widen(self, size: int) -> None:
        self.client.increment_flow_control_window(size)
        for number in self.sent:
            if number not in self.given_up | self.finished:
                self.client.increment_flow_control_window(size, number)

    @precondition(lambda self: self.answerable)
    @rule(
        data=st.data(), size=st.integers(0, 60_000), how=st.sampled_from(["whole", "part", "end"])
    )
    def answer(self, data: st.DataObject, size: int, how: str) -> None:
        request = data.draw(st.sampled_from(self.answerable))
        number = request.stream.number
        if request.stream.trailers is not None:
            return
        content = bytes((number % 256,)) * size
        self.answers[number] = self.answers.get(number, b"") + content
        connection = self.server.connection
        if number not in self.begun and how == "whole":
            self.server.answer(request, content)
            return
        if number not in self.begun:
            self.begun.add(number)
            connection.begin(request.stream, BEGINNING)
        connection.send(request.stream, [content])
        if how == "end":
            connection.finish(request.stream, ENDING)

    @rule(data=st.data())
    def allow(self, data: st.DataObject) -> None:
        if self.server.requests:
            request = data.draw(st.sampled_from(self.server.requests))
            self.server.connection.allow(request.stream, 30_000)

    @rule(sizes=st.lists(st.integers(1, 5000), max_size=4))
    def exchange(self, sizes: list[int]) -> None:
        while up := self.client.data_to_send():
            for piece in _pieces(up, sizes):
                self.server.receive(piece)
            for event in self.client.receive_data(self.server.output()):
                self._note(event)
        for event in self.client.receive_data(self.server.output()):
            self._note(event)

    def _note(self, event: Any) -> None:
        match event:
            case h2.events.DataReceived():
                self.got[event.stream_id] = self.got.get(event.stream_id, b"") + event.data
            case h2.events.StreamEnded() | h2.events.StreamReset():
                self.finished.add(event.stream_id)
            case h2.events.ConnectionTerminated():
                raise AssertionError(f"the server has ended the connection: {event}")
            case _:
                pass

    @invariant()
    def what_came_is_what_was_sent(self) -> None:
        for request in self.server.requests:
            number = request.stream.number
            assert self.sent[number].startswith(request.content)
            if request.is_whole:
                assert request.content == self.sent[number]
        for number, content in self.got.items():
            assert self.answers[number].startswith(content)

    @invariant()
    def streams_that_are_closed_are_forgotten(self) -> None:
        open_ones = [one for one in self.server.requests if one.stream.state is not State.CLOSED]
        assert self.server.connection.has_streams is bool(open_ones)

    def teardown(self) -> None:
        """In the end everything arrives that was not given up."""
        self.client.update_settings(
            {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1 - 10**9}
        )
        self.client.increment_flow_control_window(10**9)
        self.exchange([])
        for request in self.answerable:
            if request.stream.trailers is None:
                if request.stream.number not in self.begun:
                    self.server.connection.begin(request.stream, BEGINNING)
                self.server.connection.finish(request.stream, ENDING)
        self.exchange([])
        for number, content in self.answers.items():
            if number not in self.given_up:
                assert self.got.get(number, b"") == content


Conversation.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestConversation = Conversation.TestCase
