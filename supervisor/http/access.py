"""Who calls over HTTP, and how refusals are answered there."""

from __future__ import annotations

from aiohttp import web

from ...ipc.errors import UnsupportedError
from ..access import Access, Peer, Reason, Refusal, Scope
from .reply import TEXT, Reply, error_body, error_reply

_CHALLENGE = TEXT + b"WWW-Authenticate: Bearer\r\n"


def refusal(access: Access, category: Scope, changes: bool, http: web.BaseRequest) -> Reply | None:
    """The answer to a call that is refused, None when it is not.

    `changes` is whether the endpoint can change something: a GET never does.
    """
    changes = changes and http.method != "GET"
    if not changes and not access.guards_everything:
        return None
    refused = access.decide(category, changes, Peer(http.remote or "", tuple(http.headers.items())))
    return None if refused is None else _reply(refused)


def _reply(refused: Refusal) -> Reply:
    if refused.reason is Reason.DISABLED:
        return error_reply(UnsupportedError(refused.message))
    if refused.reason is Reason.UNAUTHENTICATED:
        return Reply(401, error_body(refused.message), _CHALLENGE)
    return Reply(403, error_body(refused.message))
