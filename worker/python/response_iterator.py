"""The responses of another model to one request, as they come."""

from __future__ import annotations

import threading
from collections import deque

from ...ipc.errors import StatusError
from ..peers import Conversation, Reply
from .responses import InferenceResponse, bytes_in_place, detach, received_response

#: So much of what has been iterated stays in the memory of the model that has sent it. The rest is
#: copied: a model whose memory is full waits, and so would whoever waits for its next response.
_MOST_IN_PLACE_BYTES = 8 << 20


class ResponseIterator:
    """Waits for each response in turn. When the last one has come, it can be iterated again.

    The last response of a decoupled model may have no tensors.
    """

    def __init__(self, conversation: Conversation | None, first: Reply | None = None) -> None:
        self._conversation = conversation
        self._responses: list[InferenceResponse] = []
        self._at = 0
        self._is_complete = False
        #: Responses in place, the oldest first, and how many bytes of each are.
        self._in_place: deque[tuple[InferenceResponse, int]] = deque()
        self._lock = threading.Lock()
        if first is not None:
            self._keep(first)

    def __repr__(self) -> str:
        state = "complete" if self._is_complete else "going on"
        return f"<ResponseIterator {state}: {len(self._responses)} responses>"

    def __iter__(self) -> ResponseIterator:
        if self._is_complete:
            self._at = 0
        return self

    def __next__(self) -> InferenceResponse:
        with self._lock:
            if self._at == len(self._responses):
                if self._is_complete or self._conversation is None:
                    raise StopIteration
                self._make_room()
                self._keep(_next(self._conversation))
            self._at += 1
            return self._responses[self._at - 1]

    def cancel(self) -> None:
        """Withdraw the request. The last response still comes, and may be an error."""
        if self._conversation is not None and not self._is_complete:
            self._conversation.withdraw()

    def __del__(self) -> None:
        if self._conversation is not None and not self._is_complete:
            self._conversation.forget()

    def _keep(self, reply: Reply) -> None:
        response = received_response(reply)
        self._responses.append(response)
        self._is_complete = reply.final
        size = bytes_in_place(response)
        if size:
            self._in_place.append((response, size))

    def _make_room(self) -> None:
        """Before the next response is waited for: copy what is too much of those before it."""
        while sum(size for _, size in self._in_place) > _MOST_IN_PLACE_BYTES:
            detach(self._in_place.popleft()[0])


def _next(conversation: Conversation) -> Reply:
    try:
        return conversation.next()
    except StatusError as error:
        return Reply(error=error)
