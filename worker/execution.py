"""Which execution a call to another model comes from: the server must know who waits for whom."""

from __future__ import annotations

from contextvars import ContextVar, Token

#: The key of a request of the execution that this code belongs to. Tasks of an event loop inherit
#: it from whoever began them, threads do not.
_current: ContextVar[int] = ContextVar("execution", default=0)

#: The execution that the main loop is in, where it is one that waits for the threads it started.
_joining = 0


def begin(key: int, *, joins: bool) -> Token[int]:
    """The main loop begins an execution; `joins` is whether it may not end before its threads."""
    global _joining
    _joining = key if joins else 0
    return _current.set(key)


def end(token: Token[int]) -> None:
    """The main loop has ended it; what it left on an event loop still belongs to it."""
    global _joining
    _joining = 0
    _current.reset(token)


def current() -> int:
    """The execution that waits for what is done here; 0 when there is none, as far as is known."""
    return _current.get() or _joining
