"""Responses in the order of their requests, whichever instance is the first to finish."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial

from ..request import InferResponse
from .scheduler import Work

log = logging.getLogger(__name__)


class _Place:
    """One request that has left the queue, and its responses that wait for their turn."""

    __slots__ = ("final", "held", "respond")

    def __init__(self, work: Work) -> None:
        self.respond = work.respond
        self.held: list[InferResponse] = []
        self.final = False


class Ordering:
    """Holds back responses until all requests that left the queue earlier are answered.

    A request that is answered while it is still queued (cancelled, timed out) holds up nobody.
    """

    def __init__(self) -> None:
        self._places: deque[_Place] = deque()
        #: Requests that have a place already: one whose worker died is sent a second time.
        self._known: set[int] = set()

    def __len__(self) -> int:
        return len(self._places)

    def track(self, work: Work) -> None:
        """Give a request its place, behind all others; call it when the request is sent."""
        if work.key in self._known:
            return
        place = _Place(work)
        self._known.add(work.key)
        self._places.append(place)
        work.respond = partial(self._take, work.key, place)

    def _take(self, key: int, place: _Place, response: InferResponse) -> None:
        place.final |= response.final
        if response.final:
            self._known.discard(key)
        place.held.append(response)
        places = self._places
        while places:
            first = places[0]
            held, first.held = first.held, []
            if first.final:
                places.popleft()
            for each in held:
                try:
                    first.respond(each)
                except Exception:  # a fault of whoever asked holds up nobody
                    log.exception("delivering a response in its turn failed")
            if not first.final:
                return
