"""The states of a stream that a client has opened, as the server sees them (RFC 9113 §5.1).

A stream that was not opened yet is idle and has no state here: its number is higher than that of
any stream so far. The states of promised streams are left out, for this server promises none.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class State(IntEnum):
    """What may still come and go."""

    #: Both sides may speak.
    OPEN = 0
    #: The client has said all that it wanted to.
    HALF_CLOSED_REMOTE = 1
    #: The server has.
    HALF_CLOSED_LOCAL = 2
    #: Nothing more comes or goes, but for what was on its way.
    CLOSED = 3


class Event(IntEnum):
    """What changes the state."""

    #: A frame with END_STREAM has come.
    CLIENT_ENDED = 0
    #: A frame with END_STREAM was sent.
    SERVER_ENDED = 1
    #: Either side has sent RST_STREAM.
    RESET = 2


_TABLE: Final = {
    State.OPEN: {
        Event.CLIENT_ENDED: State.HALF_CLOSED_REMOTE,
        Event.SERVER_ENDED: State.HALF_CLOSED_LOCAL,
        Event.RESET: State.CLOSED,
    },
    State.HALF_CLOSED_REMOTE: {
        Event.SERVER_ENDED: State.CLOSED,
        Event.RESET: State.CLOSED,
    },
    State.HALF_CLOSED_LOCAL: {
        Event.CLIENT_ENDED: State.CLOSED,
        Event.RESET: State.CLOSED,
    },
    State.CLOSED: {
        Event.RESET: State.CLOSED,
    },
}

#: The same by position, which needs no hashes.
_NEXT: Final = tuple(tuple(_TABLE[state].get(event) for event in Event) for state in State)


class IllegalTransition(Exception):
    """Raised when a stream is told what cannot happen in its state: a bug of the server."""


def after(state: State, event: Event) -> State:
    """The state that follows. Raises IllegalTransition where there is none."""
    following = _NEXT[state][event]
    if following is None:
        raise IllegalTransition(f"{event.name} on a stream that is {state.name}")
    return following
