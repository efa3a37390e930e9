"""What a client may ask of a connection, and how much of a nuisance it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a connection; sizes are bytes.

    `window` is what a stream may send before anybody reads, `connection_window` what all of them
    may that are being read, and `held` what may lie unread altogether. A list of fields counts 32
    bytes for each of them (RFC 9113 §6.5.2); a block is the list as it was encoded.
    """

    streams: int = 10_000
    window: int = _MIB
    connection_window: int = 16 * _MIB
    held: int = 64 * _MIB
    frame: int = _MIB
    fields: int = 16 * 1024
    block: int = 64 * 1024
    #: Of frames that achieve nothing: so many at once, and so many a second (RFC 9113 §10.5).
    idle_frames: int = 2_000
    idle_frames_a_second: int = 500


class Patience:
    """Counts what achieves nothing: a stock that each such thing takes from, and time refills."""

    __slots__ = ("_at", "_left", "_most", "_per_second")

    def __init__(self, most: int, per_second: int) -> None:
        self._most = most
        self._per_second = per_second
        self._left = float(most)
        self._at = 0.0

    def __repr__(self) -> str:
        return f"<Patience {self._left:.0f} of {self._most}>"

    def spend(self, now: float) -> bool:
        """Whether there was some left. `now` is in seconds, and never goes back."""
        if self._left < 1.0:
            refilled = self._left + (now - self._at) * self._per_second
            self._left = min(refilled, float(self._most))
            self._at = now
            if self._left < 1.0:
                return False
        elif self._left == self._most:
            self._at = now
        self._left -= 1.0
        return True
