"""The door for models that call others: the server as a client of itself.

A call goes the way of a client's request: traffic rules, cache, queue and rate limiter treat it
alike. What is wrong with it is an answer, never an exception, in the words of Triton's python
backend.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ipc.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    StatusError,
    UnavailableError,
)
from ..ipc.messages import AskReady, Done, LoadModel, error_of
from .controlplane import ControlPlane
from .dataplane import DataPlane, Stream
from .models.deployer import WITHIN_A_LOAD
from .models.model import ServedVersion
from .models.open_calls import OpenCalls
from .models.residents import Residents, Use
from .models.tasks import Tasks
from .request import InferRequest, InferResponse
from .workers.calls import Control, Door, ModelCall


class BusinessLogic(Door):
    """Answers what models ask. It opens when the server is built, and closes with it."""

    def __init__(self) -> None:
        self._dataplane: DataPlane | None = None
        self._controlplane: ControlPlane | None = None
        self._tasks = Tasks()
        self._calls = OpenCalls()
        #: Which models wait, while they are loaded, for which others to be loaded or unloaded.
        self._loads: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return f"<BusinessLogic: {self._calls!r}, {self._tasks!r}>"

    def open(self, dataplane: DataPlane, controlplane: ControlPlane) -> None:
        """From now on models are answered."""
        self._dataplane = dataplane
        self._controlplane = controlplane

    async def close(self) -> None:
        """Load nothing more for anybody."""
        await self._tasks.cancel()

    # --- inference --------------------------------------------------------------------------------

    def infer(self, call: ModelCall) -> None:
        """Have a request answered; what is wrong with it is an answer too, and may come at once."""
        dataplane = self._dataplane
        assert dataplane is not None, "no worker runs before the door is open"
        residents = dataplane.on_demand
        if residents is not None and residents.concerns(call.request.model):
            self._tasks.begin(self._infer_on_demand(dataplane, call, residents))
        else:
            self._infer(dataplane, call, None)

    async def _infer_on_demand(
        self, dataplane: DataPlane, call: ModelCall, residents: Residents
    ) -> None:
        try:
            use = await residents.use(call.request.model)
        except StatusError as error:
            _end(call.request, None)
            _refuse(call, error)
            return
        if call.abandoned:
            use.release()
            request = call.request
            _end(request, None)
            given_up = CancelledError(f"{request.log_prefix}Request cancelled")
            call.respond(InferResponse(request.model, 0, request.id, error=given_up))
        else:
            self._infer(dataplane, call, use)

    def _infer(self, dataplane: DataPlane, call: ModelCall, use: Use | None) -> None:
        request = call.request

        def take(response: InferResponse) -> None:
            if response.final or not call.decoupled:
                response.final = True
                self._calls.discard(call)
                _end(request, use)
            call.respond(response)

        try:
            self._calls.add(call, _callee(dataplane, call))
            ask = dataplane.stream if call.decoupled else dataplane.ask
            stream: Stream = ask(request, take)
        except StatusError as error:
            self._calls.discard(call)
            _end(request, use)
            _refuse(call, error)
            return
        call.work, call.cancel = stream.work, stream.cancel

    # --- the rest ---------------------------------------------------------------------------------

    def control(self, question: Control, asker: str, answer: Callable[[Done], None]) -> None:
        """Have a model loaded or unloaded, or say whether it is ready.

        `asker` is the model whose own load waits for that, "" for none.
        """
        assert self._controlplane is not None, "no worker runs before the door is open"
        self._tasks.begin(self._control(self._controlplane, question, asker, answer))

    async def _control(
        self,
        controlplane: ControlPlane,
        question: Control,
        asker: str,
        answer: Callable[[Done], None],
    ) -> None:
        done = Done(question.call)
        edge = (asker, question.model)
        try:
            if asker and not isinstance(question, AskReady):
                if self._waits_for(question.model, asker):
                    raise UnavailableError(
                        f"model '{asker}' is being loaded, and '{question.model}' waits for that: "
                        "it would wait for ever"
                    )
                self._loads.append(edge)
                WITHIN_A_LOAD.set(True)
            if isinstance(question, AskReady):
                done.ready = await _is_ready(controlplane, question.model, question.version)
            elif isinstance(question, LoadModel):
                parameters: dict[str, str | bytes | int | bool] = {**question.files}
                if question.config:
                    parameters["config"] = question.config
                await controlplane.load(question.model, parameters)
            else:
                await controlplane.unload(question.model, question.dependents)
        except StatusError as error:
            done.error = error_of(error)
        except Exception as error:
            done.error = error_of(InternalError(f"{type(error).__name__}: {error}"))
            raise
        finally:
            if edge in self._loads:
                self._loads.remove(edge)
            answer(done)

    def _waits_for(self, model: str, other: str) -> bool:
        """Whether the load of one model waits for that of another, or is the same."""
        met: set[str] = set()
        looked_at = [model]
        while looked_at:
            one = looked_at.pop()
            if one == other:
                return True
            if one not in met:
                met.add(one)
                looked_at += [target for source, target in self._loads if source == one]
        return False


def _callee(dataplane: DataPlane, call: ModelCall) -> ServedVersion:
    """The version that a call is made of. Raises what Triton finds wrong before it runs it."""
    request = call.request
    model = request.model
    try:
        dataplane.route(request)
        served = dataplane.version(model, request.version)
    except StatusError:
        raise InternalError(
            f"Failed for execute the inference request. Model '{model}' is not ready."
        ) from None
    if served.is_decoupled and not call.decoupled:
        raise InternalError(
            f"Model {model} is using the decoupled. The current BLS request call doesn't support "
            "models using the decoupled transaction policy. Please use 'decoupled=True' argument "
            "to the 'exec' or 'async_exec' calls for decoupled models.'"
        )
    return served


def _refuse(call: ModelCall, error: StatusError) -> None:
    """Answer what was not accepted, in Triton's words: the code is lost there."""
    request = call.request
    text = f"Model {request.model} - Error when running inference: {error.message}"
    call.respond(InferResponse(request.model, 0, request.id, error=InternalError(text)))


def _end(request: InferRequest, use: Use | None) -> None:
    """The last response has come, or none will."""
    if request.trace is not None:
        request.trace.end()
    if use is not None:
        use.release()


async def _is_ready(controlplane: ControlPlane, model: str, version: str) -> bool:
    number: int | None = None
    if version:
        try:
            number = int(version)
        except ValueError:
            raise InvalidArgumentError(
                f"failed to get model version from specified version string '{version}' (details: "
                "stoi), version should be an integral value > 0"
            ) from None
    try:
        return await controlplane.is_model_ready(model, number)
    except StatusError:
        return False
