"""Cross-origin requests: which web pages may read the server's answers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiohttp import web

from .reply import EXTRA_LINES, Reply

#: How long a browser may remember what a preflight was told, in seconds.
_MAX_AGE = 600

_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")


class Cors:
    """Tells browsers that pages of some origins may use this server; "*" stands for all pages.

    It guards nothing: whatever is no browser may call all the same, and what a page may change is
    decided elsewhere.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.lower() for origin in origins)

    def __repr__(self) -> str:
        return f"<Cors for {', '.join(sorted(self._origins))}>"

    def begin(self, http: web.BaseRequest) -> Reply | None:
        """Prepare the answer to a request for the page that sent it, and answer a preflight."""
        origin = http.headers.get("Origin", "")
        allowed = self._allowed(origin)
        EXTRA_LINES.set(self._lines(allowed))
        if http.method != "OPTIONS" or "Access-Control-Request-Method" not in http.headers:
            return None
        return Reply(204, b"", _preflight(http) if allowed else b"")

    def _allowed(self, origin: str) -> str:
        """The origin to name in the answer, "" when its pages may not read it."""
        if "*" in self._origins:
            return "*"
        return origin if origin.lower() in self._origins else ""

    def _lines(self, allowed: str) -> bytes:
        vary = b"" if "*" in self._origins else b"Vary: Origin\r\n"
        if not allowed:
            return vary
        return vary + (
            f"Access-Control-Allow-Origin: {allowed}\r\n"
            "Access-Control-Expose-Headers: Inference-Header-Content-Length\r\n"
        ).encode("latin-1")


def _preflight(http: web.BaseRequest) -> bytes:
    lines = f"Access-Control-Allow-Methods: GET, POST\r\nAccess-Control-Max-Age: {_MAX_AGE}\r\n"
    names = http.headers.get("Access-Control-Request-Headers", "")
    if names and _NAMES.fullmatch(names):
        lines += f"Access-Control-Allow-Headers: {names}\r\n"
    return lines.encode("latin-1")
