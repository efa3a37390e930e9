"""Which execution a call to another model belongs to: the server must know who waits for whom."""

from __future__ import annotations

import threading
from contextvars import ContextVar, Token
from typing import NamedTuple


class Origin(NamedTuple):
    """Where a model's code runs: in the execution of a request, by its key; 0 for none.

    `waits` is whether that execution does not end before the code does.
    """

    key: int = 0
    waits: bool = False


_NOWHERE = Origin()

#: Tasks of an event loop inherit it from whoever began them, threads do not.
_current: ContextVar[Origin] = ContextVar("origin", default=_NOWHERE)

#: What threads belong to that have no other origin.
_of_threads = _NOWHERE


def begin(key: int, *, awaits: bool, joins: bool) -> Token[Origin]:
    """The main loop begins an execution.

    It `awaits` its coroutines, and `joins` its threads, before it ends.
    """
    global _of_threads
    _of_threads = Origin(key, True) if joins else _NOWHERE
    return _current.set(Origin(key, awaits))


def end(token: Token[Origin]) -> None:
    """The main loop goes on; what is left on an event loop still belongs to the execution."""
    global _of_threads
    _of_threads = _NOWHERE
    _current.reset(token)


def origin() -> Origin:
    """Where the code runs that asks, as far as is known."""
    found = _current.get()
    if not found.key:
        return _of_threads
    if threading.current_thread() is threading.main_thread():
        return Origin(found.key, True)  # else it would not be here
    return found
