"""How much all streams of a connection together may send (RFC 9113 §5.2)."""

from __future__ import annotations

from .errors import ConnectionFailed, ErrorCode
from .limits import Limits
from .settings import DEFAULT_WINDOW_BYTES


class Intake:
    """The window of a connection: opened again at once, unless too much of it lies unread."""

    __slots__ = ("_held", "_limits", "_window")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._window = DEFAULT_WINDOW_BYTES
        self._held = 0

    def __repr__(self) -> str:
        return f"<Intake window={self._window} held={self._held}>"

    @property
    def is_low(self) -> bool:
        """Whether it is worth opening."""
        return self._window * 2 < self._limits.connection_window

    def came(self, size: int) -> None:
        """Content has come. Raises ConnectionFailed when it is more than was allowed (§6.9.1)."""
        self._window -= size
        if self._window < 0:
            raise ConnectionFailed(ErrorCode.FLOW_CONTROL_ERROR, "more came than was allowed")

    def hold(self, size: int) -> None:
        """So much more, or less, lies unread."""
        self._held += size

    def open(self) -> int:
        """Open the window; returns by how much."""
        limits = self._limits
        increment = min(limits.connection_window, limits.held - self._held) - self._window
        if increment <= 0:
            return 0
        self._window += increment
        return increment
