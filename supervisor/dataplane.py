"""The one door for inference: find the model, check, schedule, answer.

Both frontends, and later ensembles and models that call models, come in here; nothing behind this
door knows which of them it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from ..ipc.errors import InternalError, StatusError, UnsupportedError
from ..ipc.tensor import ClientPlace
from .classification import classify
from .config.schema import ModelConfig
from .memory.buffers import InputLease
from .memory.regions import Place, Regions
from .models import shadow
from .models.model import ServedVersion
from .models.residents import Residents
from .request import InferRequest, InferResponse, Lease
from .scheduling.scheduler import Work
from .telemetry.trace import Traces

log = logging.getLogger(__name__)


class Versions(Protocol):
    """Where served versions are found: the model manager."""

    def version(self, model: str, version: int | None) -> ServedVersion:
        """The version, or the latest ready one. Raises NotFoundError or UnavailableError."""
        ...

    def labelled(self, model: str, label: str) -> int | None:
        """The version of a model that has a label now, None without one."""
        ...

    def route(self, request: InferRequest) -> None:
        """Give a request that names no version one, where its model's traffic is split."""
        ...


class Stream:
    """A request that may have any number of responses, and can be cancelled."""

    def __init__(self, served: ServedVersion, work: Work) -> None:
        self._served = served
        self.work = work

    def cancel(self) -> None:
        """The client has gone. The final response still arrives."""
        self._served.cancel(self.work)


class DataPlane:
    """Inference on whatever models are served now."""

    def __init__(
        self,
        versions: Versions,
        traces: Traces | None = None,
        regions: Regions | None = None,
        residents: Residents | None = None,
    ) -> None:
        self._versions = versions
        #: Whoever makes a request asks here whether it is traced.
        self.traces = traces or Traces()
        self._regions = Regions() if regions is None else regions
        self._residents = residents

    @property
    def on_demand(self) -> Residents | None:
        """Whom to ask for a model before all else; None where no model is loaded on demand."""
        return self._residents or None

    def version(self, model: str, version: int | None) -> ServedVersion:
        """A served version. Raises NotFoundError or UnavailableError."""
        return self._versions.version(model, version)

    def config(self, model: str, version: int | None) -> ModelConfig:
        """The configuration of a served version. Raises NotFoundError or UnavailableError."""
        return self._versions.version(model, version).config

    def labelled(self, model: str, label: str) -> int | None:
        """The version of a model that has a label now, None without one."""
        return self._versions.labelled(model, label)

    def route(self, request: InferRequest) -> None:
        """Settle the version of a request that names none, before memory is leased for it.

        Requests that need no memory are routed when they are run.
        """
        if request.version is None:
            self._versions.route(request)

    def lease(self, model: str, version: int | None, size: int) -> Lease:
        """Lease shared memory for the inputs of one request to this model.

        Raises NotFoundError or UnavailableError: for the model, or when no memory is left.
        """
        return self._versions.version(model, version).lease(size)

    def use_region(self, request: InferRequest, place: Place) -> ClientPlace:
        """Have the request use a place in a client's region until it is answered.

        Raises NotFoundError for an unknown region, InvalidArgumentError for a place beyond it.
        """
        use, region = self._regions.use(place)
        request.leases.append(use)
        request.regions.append(use)
        return region

    async def infer(self, request: InferRequest) -> InferResponse:
        """Run a request that has exactly one response.

        Raises StatusError for whatever went wrong. Cancelling the awaiting task cancels the
        request.
        """
        answer: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()

        def take(response: InferResponse) -> None:
            if not answer.done():  # else the awaiting task was cancelled
                answer.set_result(response)

        asked = self.ask(request, take)
        try:
            response = await answer
        except asyncio.CancelledError:
            asked.cancel()
            raise
        if response.error is not None:
            raise response.error
        return response

    def ask(self, request: InferRequest, on_response: Callable[[InferResponse], None]) -> Stream:
        """Run a request that has exactly one response, which arrives on the event loop, later, with
        the error if there is one.

        Raises StatusError at once for a request that is wrong.
        """
        served = self._find(request)
        if served.is_decoupled:
            _give_back(request)
            raise UnsupportedError(
                f"model '{request.model}' has a decoupled transaction policy, under which a "
                f"request may have any number of responses: use a streaming call"
            )
        answer = _Answer(served, request, on_response)
        return Stream(served, self._submit(served, request, answer.take))

    def stream(self, request: InferRequest, on_response: Callable[[InferResponse], None]) -> Stream:
        """Run a request; its responses, errors among them, arrive on the event loop until one is
        final.

        Raises StatusError at once for a request that is wrong.
        """
        served = self._find(request)

        def take(response: InferResponse) -> None:
            if request.outputs and response.error is None:
                _classify_safely(served, request, response)
            on_response(response)

        return Stream(served, self._submit(served, request, take))

    def _find(self, request: InferRequest) -> ServedVersion:
        """The version that a request goes to: the one whose memory it has leased, if any."""
        for lease in request.leases:
            # Reloaded since the lease: the request goes where its bytes are.
            if isinstance(lease, InputLease) and lease.arena is not None:
                holder = lease.arena.holder
                if isinstance(holder, ServedVersion):
                    return holder
        try:
            self.route(request)
            return self._versions.version(request.model, request.version)
        except StatusError:
            _give_back(request)
            raise

    def _submit(
        self,
        served: ServedVersion,
        request: InferRequest,
        respond: Callable[[InferResponse], None],
    ) -> Work:
        if not request.shadows:
            return served.submit(request, respond)
        copies = shadow.copies(request, self._versions.version)
        try:
            work = served.submit(request, respond)
        except StatusError:
            for copy in copies:
                copy.drop()
            raise
        for copy in copies:
            copy.send()
        return work


class _Answer:
    """The one response that somebody waits for."""

    __slots__ = ("_deliver", "_request", "_served")

    def __init__(
        self,
        served: ServedVersion,
        request: InferRequest,
        deliver: Callable[[InferResponse], None],
    ) -> None:
        self._served = served
        self._request = request
        self._deliver: Callable[[InferResponse], None] | None = deliver

    def take(self, response: InferResponse) -> None:
        """Called by the scheduler; what comes after the first response is a bug of the backend."""
        if not response.final and response.error is None and not response.outputs:
            return
        deliver, self._deliver = self._deliver, None
        if deliver is None:
            return
        request = self._request
        if request.outputs and response.error is None:
            _classify_safely(self._served, request, response)
        error = response.error
        if error is not None:
            error.after_dispatch = not error.unread
        deliver(response)


def _status_of(error: Exception, request: InferRequest) -> StatusError:
    if isinstance(error, StatusError):
        return error
    log.error("%sclassifying an output failed", request.log_prefix, exc_info=error)
    return InternalError(f"{request.log_prefix}classifying an output failed")


def _classify_safely(served: ServedVersion, request: InferRequest, response: InferResponse) -> None:
    """Classify the outputs; whatever goes wrong with that is the response's error."""
    try:
        _classify(served, request, response)
    except Exception as error:  # whatever it is, the client gets its answer
        response.outputs, response.error = [], _status_of(error, request)


def _classify(served: ServedVersion, request: InferRequest, response: InferResponse) -> None:
    """Replace outputs that are wanted as classes (the classification extension)."""
    for wanted in request.outputs:
        if wanted.classification:
            for index, tensor in enumerate(response.outputs):
                if tensor.name == wanted.name:
                    response.outputs[index] = classify(
                        tensor,
                        wanted.classification,
                        batching=served.config.max_batch_size > 0,
                        labels=served.labels.get(tensor.name, []),
                    )


def _give_back(request: InferRequest) -> None:
    for lease in request.leases:
        lease.release()
