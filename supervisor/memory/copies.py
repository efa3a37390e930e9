"""How many bytes of tensors this process has copied: the measure of what it is for to avoid."""

from __future__ import annotations


class Copies:
    """Running totals: `inward` from requests into arenas, `outward` from arenas to transports."""

    __slots__ = ("inward", "outward")

    def __init__(self) -> None:
        self.inward = self.outward = 0

    def __repr__(self) -> str:
        return f"<Copies: {self.inward} bytes in, {self.outward} bytes out>"


#: Of the whole process; written by the event loop alone.
COPIES = Copies()
