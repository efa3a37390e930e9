"""The response cache at the door of one served version: look up, answer, or run and keep.

A request is looked up before any scheduler sees it, so it makes no difference which one the model
has. Looking up may take a while (a hash of large inputs, a question to Redis); the request has been
accepted then, and whatever comes of it is a response.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from copy import copy

from ...ipc.errors import CancelledError, StatusError, UnavailableError
from ..cache.cache import THREAD_LIMIT_BYTES, CachedAnswer, ResponseCache
from ..cache.key import KeyMaker, Reader
from ..request import FailureReason, InferRequest, InferResponse
from ..scheduling.scheduler import Work
from ..telemetry.statistics import VersionStatistics
from .tasks import Tasks

log = logging.getLogger(__name__)


class CachedAnswers:
    """Answers requests of one version from the cache, and fills it.

    `read` gives the bytes of inputs in place. A look-up that found nothing is counted as a miss at
    once; when the answer has been kept, the time which that took is added.
    """

    def __init__(
        self,
        cache: ResponseCache,
        model: str,
        version: int,
        generation: bytes,
        read: Reader,
        statistics: VersionStatistics,
    ) -> None:
        self._cache = cache
        self._model = model
        self._version = version
        self._keys = KeyMaker(model, version, generation)
        self._read = read
        self._statistics = statistics
        #: The keys of requests that were not found and run now, by the keys of their works.
        self._missed: dict[int, bytes] = {}
        #: Requests that are being looked up.
        self._looking: dict[int, Work] = {}
        self._lookups = Tasks()
        self._insertions = Tasks()
        self._closed = False
        #: Told of a request before it is answered without running.
        self.on_hit: Callable[[Work], None] | None = None

    def __repr__(self) -> str:
        looking, missed = len(self._looking), len(self._missed)
        return f"<CachedAnswers of '{self._model}' {self._version}: {looking} asked, {missed} run>"

    def takes(self, request: InferRequest) -> bool:
        """Whether a request may be answered from the cache at all.

        Not one with tensors in a client's region: what lies there may change between our look at
        it and the worker's, and what is answered there is not ours to keep.
        """
        return not request.regions and not self._closed

    def accept(self, work: Work, run: Callable[[Work], None]) -> None:
        """Answer a request from the cache or else `run` it, after this has returned."""
        self._looking[work.key] = work
        self._lookups.begin(self._look_up(work, run))

    def finished(self, work: Work, response: InferResponse) -> None:
        """A request has its final response: keep it if it is the one good answer to it."""
        key = self._missed.pop(work.key, None)
        if key is None or response.error is not None or work.responses != 1 or self._closed:
            return
        response.kept = True
        # A copy of the list: classification replaces tensors in the response's own.
        answer = CachedAnswer(tuple(response.outputs), response.parameters)
        self._insertions.begin(self._keep(key, answer))

    async def close(self) -> None:
        """Look nothing up any more; requests that are being looked up are answered UNAVAILABLE."""
        self._closed = True
        await self._lookups.cancel()
        await self._insertions.cancel()
        looking, self._looking = self._looking, {}
        reason = f"model '{self._model}' version {self._version} was unloaded"
        for work in looking.values():
            self._fail(work, UnavailableError(work.request.log_prefix + reason), "REJECTED")

    async def _look_up(self, work: Work, run: Callable[[Work], None]) -> None:
        begun = time.monotonic_ns()
        key, found = await self._find(work.request)
        del self._looking[work.key]
        now = time.monotonic_ns()
        if work.cancelled:
            error = CancelledError(f"{work.request.log_prefix}Request cancelled")
            self._fail(work, error, "CANCELED")
        elif found is not None:
            self._statistics.cache_hit(now - begun, begun - work.enqueued_ns)
            if self.on_hit is not None:
                self.on_hit(work)
            work.answer(self._response(work.request, found))
        else:
            if key is not None:
                self._statistics.cache_missed(now - begun)
                self._missed[work.key] = key
            work.enqueued_ns = now
            run(work)

    async def _find(self, request: InferRequest) -> tuple[bytes | None, CachedAnswer | None]:
        """The key of a request and what is kept under it, as far as there is such a thing."""
        try:
            size = sum(tensor.byte_size for tensor in request.inputs)
            if size <= THREAD_LIMIT_BYTES:
                key = self._keys.key(request, self._read)
            else:
                loop = asyncio.get_running_loop()
                key = await loop.run_in_executor(None, self._keys.key, request, self._read)
            return key, None if key is None else await self._cache.lookup(key)
        except Exception:  # a fault of the cache must not cost anybody an answer
            log.exception("%slooking up an answer failed", request.log_prefix)
            return None, None

    async def _keep(self, key: bytes, answer: CachedAnswer) -> None:
        begun = time.monotonic_ns()
        await self._cache.insert(key, answer)
        self._statistics.cache_inserted(time.monotonic_ns() - begun)

    def _response(self, request: InferRequest, found: CachedAnswer) -> InferResponse:
        # Tensors of its own: whoever gets a response may change it.
        outputs = [copy(tensor) for tensor in found.outputs]
        return InferResponse(
            self._model, self._version, request.id, outputs, dict(found.parameters)
        )

    def _fail(self, work: Work, error: StatusError, reason: FailureReason) -> None:
        work.answer(InferResponse(self._model, self._version, work.request.id, error=error), reason)
