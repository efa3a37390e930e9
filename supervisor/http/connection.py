"""aiohttp's connection, with the protocol's form of errors for what is not even HTTP."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from .reply import TEXT, Reply, error_body


class Connection(web.RequestHandler):
    """One connection that aiohttp serves."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be read, and close the connection."""
        words = (message or HTTPStatus(status).phrase).splitlines()[0].rstrip(": ")
        return Reply(status, error_body(words), TEXT, closing=True)
