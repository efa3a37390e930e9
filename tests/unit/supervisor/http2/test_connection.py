"""A connection as a client of the h2 library sees it, and what breaks its rules."""

from __future__ import annotations

import struct

import h2.events
import h2.settings
import pytest
from support.http2 import REQUEST, End, Wire, frame, frames_of, goodbye, resets

from tritonpy.supervisor.http2.errors import ErrorCode
from tritonpy.supervisor.http2.frames import PREFACE
from tritonpy.supervisor.http2.limits import Limits
from tritonpy.supervisor.http2.pings import PingRules
from tritonpy.supervisor.http2.states import State

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32

#: POST, http, / and an authority, in the static table.
BLOCK = b"\x83\x86\x84\x41\x01x"
HELLO = PREFACE + frame(SETTINGS)
OPENED = HELLO + frame(HEADERS, BLOCK, END_HEADERS, 1)
ASKED = HELLO + frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, 1)


def test_a_request_and_its_answer() -> None:
    wire = Wire()
    asked = wire.ask(b"question", [("x", "y")])
    assert (asked.head.path, asked.head.fields, asked.content, asked.is_whole) == (
        b"/echo",
        ((b"x", b"y"),),
        b"question",
        True,
    )
    wire.server.answer(asked, b"answer")
    kinds = [type(event).__name__ for event in wire.exchange()]
    assert kinds == ["ResponseReceived", "DataReceived", "TrailersReceived", "StreamEnded"]
    assert asked.stream.state is State.CLOSED
    assert repr(wire.server.connection) == "<Connection OPEN streams=0 last=1>"


def test_many_requests_at_once_are_answered_in_any_order() -> None:
    wire = Wire()
    for number in (1, 3, 5):
        wire.client.send_headers(number, REQUEST, end_stream=True)
    wire.exchange()
    for asked in reversed(wire.requests):
        wire.server.answer(asked, b"%d" % asked.stream.number)
    data = [event for event in wire.exchange() if isinstance(event, h2.events.DataReceived)]
    assert [(event.stream_id, event.data) for event in data] == [(5, b"5"), (3, b"3"), (1, b"1")]


def test_content_waits_for_the_clients_windows_and_takes_turns() -> None:
    wire = Wire()
    wire.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 20_000})
    wire.exchange()
    first, second = wire.ask(), wire.ask()
    wire.server.answer(first, bytes(50_000))
    wire.server.answer(second, bytes(30_000))
    events = wire.exchange()
    sizes = {1: 0, 3: 0}
    for event in events:
        if isinstance(event, h2.events.DataReceived):
            sizes[event.stream_id] += len(event.data)
    assert sizes == {1: 20_000, 3: 20_000}
    order = [event.stream_id for event in events if isinstance(event, h2.events.DataReceived)]
    assert order == [1, 3, 1, 3]
    wire.client.increment_flow_control_window(100_000)
    wire.client.increment_flow_control_window(10_000, 3)
    ended = [event for event in wire.exchange() if isinstance(event, h2.events.StreamEnded)]
    assert [event.stream_id for event in ended] == [3]
    assert first.stream.queued == 30_000


def test_the_window_of_the_connection_holds_all_streams_back() -> None:
    wire = Wire()
    wire.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 200_000})
    wire.exchange()
    first, second = wire.ask(), wire.ask()
    wire.server.answer(first, bytes(65_535))
    wire.exchange()
    wire.server.answer(second, bytes(10))
    wire.exchange()
    assert not wire.server.connection.has_output
    assert second.stream.queued == 10
    wire.client.increment_flow_control_window(10)
    wire.exchange()
    assert second.stream.state is State.CLOSED


def test_a_smaller_initial_window_counts_for_open_streams_and_may_be_below_zero() -> None:
    wire = Wire()
    asked = wire.ask()
    wire.server.connection.begin(asked.stream, b"\x88")
    wire.server.connection.send(asked.stream, [bytes(40_000)])
    wire.exchange()
    wire.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 30_000})
    wire.exchange()
    assert asked.stream.send_window == -10_000
    wire.server.connection.send(asked.stream, [b"x"])
    wire.client.increment_flow_control_window(10_000, 1)
    wire.exchange()
    assert asked.stream.queued == 1
    wire.client.increment_flow_control_window(1, 1)
    wire.exchange()
    assert (asked.stream.queued, asked.drained_times) == (0, 2)


def test_larger_frames_are_sent_where_the_client_takes_them() -> None:
    wire = Wire()
    wire.client.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: 60_000})
    wire.exchange()
    wire.server.answer(wire.ask(), bytes(60_000))
    data = [event for event in wire.exchange() if isinstance(event, h2.events.DataReceived)]
    assert [len(event.data) for event in data] == [60_000]


def test_a_client_without_a_table_of_fields_is_told_that_none_is_used() -> None:
    wire = Wire()
    wire.client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
    wire.exchange()
    for _ in range(2):
        wire.server.answer(wire.ask(), b"x")
        assert isinstance(wire.exchange()[0], h2.events.ResponseReceived)


def test_the_client_may_send_as_much_as_its_receiver_allows() -> None:
    wire = Wire(Limits(window=100_000, connection_window=300_000))
    wire.client.send_headers(1, REQUEST)
    wire.exchange()
    assert wire.client.local_flow_control_window(1) == 100_000
    wire.client.send_data(1, bytes(16_000))
    wire.exchange()
    assert wire.client.local_flow_control_window(1) == 84_000
    wire.server.connection.allow(wire.requests[0].stream, 250_000)
    wire.exchange()
    assert wire.client.local_flow_control_window(1) == 250_000


def test_what_lies_unread_holds_all_streams_back() -> None:
    wire = Wire(Limits(window=1_000_000, connection_window=100_000, held=100_000))
    wire.client.send_headers(1, REQUEST)
    for _ in range(6):
        wire.client.send_data(1, bytes(15_000))
    wire.server.connection.hold(90_000)
    wire.exchange()
    assert wire.client.local_flow_control_window(1) == 10_000
    wire.server.connection.hold(-90_000)
    wire.exchange()
    assert wire.client.local_flow_control_window(1) == 100_000


def test_windows_are_opened_by_a_lot_or_not_at_all() -> None:
    wire = Wire()
    wire.client.send_headers(1, REQUEST)
    wire.client.send_data(1, bytes(1000))
    wire.exchange()
    wire.server.connection.hold(1000)
    wire.server.connection.hold(-1000)
    wire.server.connection.allow(wire.requests[0].stream, 1024 * 1024)
    assert not wire.server.connection.has_output


def test_a_client_that_gives_up_is_heard_and_what_waits_for_it_dropped() -> None:
    wire = Wire()
    asked = wire.ask()
    wire.server.answer(asked, bytes(100_000))
    wire.exchange()
    wire.client.reset_stream(1)
    wire.exchange()
    assert asked.is_withdrawn
    wire.client.increment_flow_control_window(100_000)
    assert not wire.exchange()
    wire.server.answer(asked)  # too late, and harmless
    assert not wire.exchange()


def test_an_answer_before_the_end_of_the_request_asks_the_client_to_stop() -> None:
    wire = Wire()
    wire.client.send_headers(1, REQUEST)
    wire.exchange()
    asked = wire.requests[0]
    late = frame(DATA, b"late", 0, 1) + frame(WINDOW_UPDATE, b"\0\0\0\1", 0, 1)
    wire.server.answer(asked)
    events = wire.exchange()
    assert resets(events) == {1: ErrorCode.NO_ERROR}
    wire.server.receive(late + frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, 1))
    assert goodbye(wire.server.output()) is None
    assert (asked.content, asked.is_withdrawn) == (b"", False)


@pytest.mark.parametrize("ends", [True, False])
def test_a_request_may_be_answered_by_its_fields_alone(ends: bool) -> None:
    wire = Wire()
    wire.server.answers_at_once = True
    for number in (1, 3):
        wire.client.send_headers(number, REQUEST, end_stream=ends)
        events = wire.exchange()
        assert isinstance(events[0], h2.events.ResponseReceived)
        assert resets(events) == ({} if ends else {number: ErrorCode.NO_ERROR})
    assert not any(request.is_whole or request.is_withdrawn for request in wire.requests)


def test_streams_that_are_closed_hold_nobody() -> None:
    wire = Wire()
    wire.server.answer(wire.ask())
    wire.ask()
    wire.client.reset_stream(3)
    wire.ask()
    wire.exchange()
    wire.server.connection.lost()
    assert [request.stream.receiver for request in wire.requests] == [None, None, None]


def test_trailers_of_a_client_end_its_request() -> None:
    wire = Wire()
    wire.client.send_headers(1, REQUEST)
    wire.client.send_data(1, b"x")
    wire.client.send_headers(1, [("trailer", "1")], end_stream=True)
    wire.exchange()
    assert (wire.requests[0].content, wire.requests[0].is_whole) == (b"x", True)


def test_no_more_streams_than_allowed() -> None:
    wire = Wire(Limits(streams=2))
    wire.server.receive(
        b"".join(frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, n) for n in (1, 3, 5))
    )
    assert frames_of(wire.server.output()) == [
        (RST_STREAM, 0, 5, ErrorCode.REFUSED_STREAM.to_bytes(4, "big"))
    ]
    assert len(wire.requests) == 2


# --- the end ------------------------------------------------------------------------------------


def test_leaving_takes_what_is_on_its_way_and_ends_with_the_last_answer() -> None:
    wire = Wire()
    asked = wire.ask()
    wire.server.connection.leave("max_age")
    wire.client.send_headers(3, REQUEST, end_stream=True)  # the client cannot know
    down = wire.server.output()
    assert goodbye(down) == (ErrorCode.NO_ERROR, b"max_age")
    wire.server.receive(wire.client.data_to_send())
    wire.server.receive(frame(PING, b"leaving ", 1))
    assert frames_of(wire.server.output())[0][3][:4] == struct.pack(">I", 3)
    wire.server.receive(frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, 5))
    assert frames_of(wire.server.output())[0][0] == RST_STREAM
    for request in (asked, wire.requests[1]):
        assert not wire.server.connection.is_ended
        wire.server.answer(request)
    assert wire.server.connection.is_ended
    assert wire.server.output()


def test_finishing_an_idle_connection_ends_it() -> None:
    wire = Wire()
    wire.server.connection.finish_streams()
    assert wire.server.connection.is_ended
    assert isinstance(wire.exchange()[0], h2.events.ConnectionTerminated)


def test_whoever_waits_is_told_when_the_connection_is_lost() -> None:
    wire = Wire()
    asked = wire.ask()
    wire.server.connection.lost()
    assert asked.is_withdrawn
    wire.server.receive(frame(PING, bytes(8)))
    assert not wire.server.output()


def test_a_silent_client_is_pinged_and_given_up() -> None:
    server = End(pings=PingRules(time=10, timeout=5, without_calls=True))
    server.receive(HELLO)
    server.output()
    assert server.connection.look(server.now) == 10
    server.now += 10
    assert server.connection.look(server.now) == 5
    assert frames_of(server.output())[0][0] == PING
    server.now += 5
    server.connection.look(server.now)
    assert server.connection.is_ended
    assert goodbye(server.output()) == (ErrorCode.NO_ERROR, b"keepalive_timeout")


# --- rules of a stream (§5.4.2) -----------------------------------------------------------------

NUMBER = ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(HEADERS, b"\x83\x86", END_HEADERS | END_STREAM, 3), NUMBER),
        (frame(HEADERS, BLOCK + b"\0\1A\1x", END_HEADERS | END_STREAM, 3), NUMBER),
        (frame(HEADERS, BLOCK + b"\x83", END_HEADERS | END_STREAM, 3), NUMBER),
        (frame(HEADERS, BLOCK + b"\0\2te\1x", END_HEADERS | END_STREAM, 3), NUMBER),
        (frame(HEADERS, BLOCK + b"\x0f\x0d\x015", END_HEADERS | END_STREAM, 3), NUMBER),
        (
            frame(HEADERS, BLOCK + b"\x0f\x0d\x015", END_HEADERS, 3)
            + frame(DATA, b"1234", END_STREAM, 3),
            NUMBER,
        ),
        (frame(HEADERS, BLOCK, END_HEADERS, 3) + frame(HEADERS, b"", END_HEADERS, 3), NUMBER),
        (
            frame(HEADERS, BLOCK, END_HEADERS, 3)
            + frame(HEADERS, b"\x83", END_HEADERS | END_STREAM, 3),
            NUMBER,
        ),
        (frame(HEADERS, BLOCK, END_HEADERS, 3) + frame(WINDOW_UPDATE, bytes(4), 0, 3), NUMBER),
        (
            frame(HEADERS, BLOCK, END_HEADERS, 3) + frame(WINDOW_UPDATE, b"\x7f\xff\xff\xff", 0, 3),
            ErrorCode.FLOW_CONTROL_ERROR,
        ),
        (
            frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, 3) + frame(DATA, b"x", 0, 3),
            ErrorCode.STREAM_CLOSED,
        ),
        (
            frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, 3)
            + frame(HEADERS, b"", END_HEADERS | END_STREAM, 3),
            ErrorCode.STREAM_CLOSED,
        ),
        (
            frame(HEADERS, BLOCK, END_HEADERS, 3) + frame(DATA, bytes(1001), 0, 3),
            ErrorCode.FLOW_CONTROL_ERROR,
        ),
        (
            frame(HEADERS, BLOCK, END_HEADERS, 3) + frame(PRIORITY, bytes(4), 0, 3),
            ErrorCode.FRAME_SIZE_ERROR,
        ),
        (
            frame(HEADERS, BLOCK + b"\0\1a\x7f\x89\x07" + b"x" * 1032, END_HEADERS, 3),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
    ],
)
def test_broken_rules_of_a_stream_end_it_alone(frames: bytes, code: ErrorCode) -> None:
    server = End(Limits(window=1000, fields=1000))
    server.receive(OPENED + frames)
    said = frames_of(server.output())
    assert (RST_STREAM, 0, 3, code.to_bytes(4, "big")) in said
    assert GOAWAY not in [kind for kind, *_ in said]
    server.receive(frame(DATA, b"x", END_STREAM, 1))
    assert (server.requests[0].content, server.requests[0].is_whole) == (b"x", True)
    assert all(request.is_withdrawn for request in server.requests[1:])


# --- rules of a connection (§5.4.1) -------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n", ErrorCode.PROTOCOL_ERROR),
        (PREFACE + frame(PING, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (PREFACE + frame(SETTINGS, b"", 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(SETTINGS, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(SETTINGS, bytes(6), 1), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(SETTINGS, b"", 0, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(SETTINGS, b"\0\2\0\0\0\2"), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(SETTINGS, b"\0\4\xff\0\0\0"), ErrorCode.FLOW_CONTROL_ERROR),
        (HELLO + frame(SETTINGS, b"\0\5\0\0\0\1"), ErrorCode.PROTOCOL_ERROR),
        (
            OPENED
            + frame(WINDOW_UPDATE, b"\x7f\xff\0\0", 0, 1)
            + frame(SETTINGS, b"\0\4\x7f\xff\xff\xff"),
            ErrorCode.FLOW_CONTROL_ERROR,
        ),
        (HELLO + frame(HEADERS, BLOCK, END_HEADERS, 2), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, BLOCK, END_HEADERS, 0), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, b"\xff\xff\xff", END_HEADERS, 1), ErrorCode.COMPRESSION_ERROR),
        (HELLO + frame(HEADERS, b"\x3f\xe2\x7f", END_HEADERS, 1), ErrorCode.COMPRESSION_ERROR),
        (HELLO + frame(HEADERS, BLOCK, 0, 1) + frame(PING, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (
            HELLO + frame(HEADERS, BLOCK, 0, 1) + frame(CONTINUATION, b"", END_HEADERS, 3),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (HELLO + frame(CONTINUATION, b"", END_HEADERS, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, b"\x09x", END_HEADERS | PADDED, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, b"", END_HEADERS | PADDED, 1), ErrorCode.FRAME_SIZE_ERROR),
        (
            HELLO + frame(HEADERS, b"\0\0\0\1\0" + BLOCK, END_HEADERS | WITH_PRIORITY, 1),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (HELLO + frame(DATA, b"x", 0, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(DATA, b"x", 0, 0), ErrorCode.PROTOCOL_ERROR),
        (OPENED + frame(DATA, b"\x05x", PADDED, 1), ErrorCode.PROTOCOL_ERROR),
        (OPENED + frame(DATA, b"", PADDED, 1), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(RST_STREAM, bytes(4), 0, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(RST_STREAM, bytes(4), 0, 0), ErrorCode.PROTOCOL_ERROR),
        (OPENED + frame(RST_STREAM, bytes(3), 0, 1), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(WINDOW_UPDATE, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(WINDOW_UPDATE, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(WINDOW_UPDATE, b"\0\0\0\1", 0, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(WINDOW_UPDATE, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR),
        (HELLO + frame(PING, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(PING, bytes(8), 0, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(PRIORITY, bytes(5), 0, 0), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(PUSH_PROMISE, bytes(5), 0, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(GOAWAY, bytes(7)), ErrorCode.PROTOCOL_ERROR),
        (HELLO + b"\xff\xff\xff\0\0\0\0\0\1", ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + b"\0\x10\0\x0c\0\0\0\0\0", ErrorCode.ENHANCE_YOUR_CALM),
        (
            HELLO + frame(HEADERS, BLOCK, 0, 1) + frame(CONTINUATION, bytes(900), 0, 1),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
    ],
)
def test_broken_rules_of_a_connection_end_it(data: bytes, code: ErrorCode) -> None:
    server = End(Limits(frame=16_384, block=900))
    server.receive(data)
    found = goodbye(server.output())
    assert found is not None
    assert found[0] == code
    assert server.connection.is_ended
    assert all(request.is_withdrawn for request in server.requests)


def test_fields_on_a_stream_that_was_answered_end_the_connection() -> None:
    server = End()
    server.receive(ASKED)
    server.answer(server.requests[0])
    server.output()
    server.receive(frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, 1))
    found = goodbye(server.output())
    assert found is not None
    assert found[0] == ErrorCode.STREAM_CLOSED


def test_content_on_a_stream_that_was_answered_is_refused() -> None:
    server = End()
    server.receive(ASKED)
    server.answer(server.requests[0])
    server.output()
    server.receive(frame(DATA, b"x", 0, 1))
    assert frames_of(server.output()) == [
        (RST_STREAM, 0, 1, ErrorCode.STREAM_CLOSED.to_bytes(4, "big"))
    ]


def test_more_content_than_all_streams_may_send_ends_the_connection() -> None:
    server = End(Limits(connection_window=65_535, held=65_535))
    server.receive(OPENED)
    server.connection.hold(65_535)
    server.output()
    for _ in range(5):
        server.receive(frame(DATA, bytes(15_000), 0, 1))
    found = goodbye(server.output())
    assert found is not None
    assert found[0] == ErrorCode.FLOW_CONTROL_ERROR


# --- nuisances (§10.5) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nuisance",
    [
        frame(SETTINGS),
        frame(DATA, b"", 0, 1),
        frame(PRIORITY, bytes(5), 0, 7),
        frame(GOAWAY, bytes(8)),
        frame(0xFA, b"x", 0xFF, 9),
    ],
    ids=["settings", "empty content", "priorities", "goaways", "unknown frames"],
)
def test_frames_for_nothing_are_borne_for_a_while(nuisance: bytes) -> None:
    server = End(Limits(idle_frames=50, idle_frames_a_second=10))
    server.receive(OPENED)
    server.receive(nuisance * 49)  # the first SETTINGS counted, too
    assert goodbye(server.output()) is None
    server.now += 1.0
    server.receive(nuisance * 10)
    assert goodbye(server.output()) is None
    server.receive(nuisance)
    assert goodbye(server.output()) == (ErrorCode.ENHANCE_YOUR_CALM, b"too many frames for nothing")


def test_requests_that_are_reset_at_once_are_borne_for_a_while() -> None:
    server = End(Limits(idle_frames=50, idle_frames_a_second=10))
    server.receive(HELLO)
    for number in range(1, 200, 2):
        server.receive(
            frame(HEADERS, BLOCK, END_HEADERS | END_STREAM, number)
            + frame(RST_STREAM, bytes(4), 0, number)
        )
    found = goodbye(server.output())
    assert found is not None
    assert found[0] == ErrorCode.ENHANCE_YOUR_CALM
    assert len(server.requests) == 50


def test_empty_continuations_are_borne_for_a_while() -> None:
    server = End(Limits(idle_frames=50, idle_frames_a_second=10))
    server.receive(HELLO + frame(HEADERS, BLOCK, 0, 1) + frame(CONTINUATION, b"", 0, 1) * 60)
    found = goodbye(server.output())
    assert found is not None
    assert found[0] == ErrorCode.ENHANCE_YOUR_CALM


# --- the parts of frames ------------------------------------------------------------------------


def test_blocks_in_pieces_and_paddings_are_put_together() -> None:
    server = End()
    server.receive(
        HELLO
        + frame(HEADERS, b"\2" + b"\0\0\0\0\0" + BLOCK[:2] + b"\0\0", PADDED | WITH_PRIORITY, 1)
        + frame(CONTINUATION, BLOCK[2:4], 0, 1)
        + frame(CONTINUATION, BLOCK[4:], END_HEADERS, 1)
        + frame(DATA, b"\3content\0\0\0", PADDED | END_STREAM, 1)
    )
    (asked,) = server.requests
    assert (asked.head.authority, asked.content, asked.is_whole) == (b"x", b"content", True)


def test_padding_counts_for_the_windows() -> None:
    server = End()
    server.receive(OPENED + frame(DATA, b"\5content\0\0\0\0\0", PADDED, 1))
    assert server.requests[0].stream.receive_window == 1024 * 1024 - 13


def test_bytes_may_come_one_by_one() -> None:
    server = End()
    data = OPENED + frame(DATA, b"\3con\0\0\0", PADDED, 1) + frame(DATA, b"tent", END_STREAM, 1)
    for index in range(len(data)):
        server.receive(data[index : index + 1])
    (asked,) = server.requests
    assert (asked.content, asked.is_whole) == (b"content", True)
