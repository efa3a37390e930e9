"""The python backend: runs a user's model.py."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, cast

from ...ipc.errors import InternalError, StatusError, UnsupportedError
from ..backend import Finish, Model, Request, RequestBackend, Response
from . import bls, failures, model_file
from .abandoned import Abandoned
from .answer import Answer
from .concurrency import most_executions
from .errors import TritonModelException
from .event_loop import EventLoop
from .log import logger
from .metric_registry import REGISTRY
from .model_config import ModelConfig, using_decoupled_model_transaction_policy
from .readiness_hook import ReadinessHook
from .requests import ReceivedRequest
from .responses import InferenceResponse

#: What a model's code raises when it fails; `sys.exit` in it fails the call, not the worker.
_FAILURES = (Exception, SystemExit)


_FORCE_CPU = "FORCE_CPU_ONLY_INPUT_TENSORS"


class PythonBackend(RequestBackend):
    """One instance of a model that is written in Python.

    `execute` runs in the worker's main thread, a coroutine of it on the event loop. What the model
    sends by itself, from its own threads or from the event loop, leaves through `Request.respond`.
    """

    pure: ClassVar[bool] = False
    writes_inputs: ClassVar[bool] = True
    defers_inputs: ClassVar[bool] = True

    def __init__(self) -> None:
        self._python_model: Any = None
        self._name = ""
        self._decoupled = False
        self._takes_device_tensors = False
        #: How many coroutines of `execute` go on at once; None where the model does not say.
        self._most_executions: int | None = None
        self._abandoned = Abandoned("")
        self._event_loop = EventLoop()
        self._readiness: ReadinessHook | None = None

    def __repr__(self) -> str:
        return f"<PythonBackend '{self._name}' {type(self._python_model).__name__}>"

    @property
    def takes_device_tensors(self) -> bool:
        """Whether the model wants inputs where they lie."""
        return self._takes_device_tensors

    @property
    def concurrency(self) -> int:
        """How many coroutines of `execute` the worker awaits at once."""
        return self._most_executions or 1

    @property
    def readiness(self) -> Callable[[], bool] | None:
        """Asks the model's `is_ready`, where it has one."""
        return self._readiness

    def describe(self, model: Model) -> dict[str, Any]:
        """Have the model complete its configuration, if it has `auto_complete_config`."""
        _refuse_unsupported(model)
        REGISTRY.connect(self.server, model.instance.name)
        try:
            python_class = model_file.model_class(model)
            complete = getattr(python_class, "auto_complete_config", None)
            if complete is None:
                return model.config
            completed = complete(ModelConfig(json.dumps(model.config)))
        except _FAILURES as error:
            raise _load_failure(model, error) from error
        if not isinstance(completed, ModelConfig):
            raise InternalError(
                f"auto_complete_config function in model '{model.name}' must return a valid "
                "pb.ModelConfig object."
            )
        return completed.as_dict()

    def load(self, model: Model) -> None:
        """Import model.py, make its TritonPythonModel, and have it initialize itself."""
        _refuse_unsupported(model)
        self._name = model.instance.name
        self._takes_device_tensors = model.parameter(_FORCE_CPU) == "no"
        self._decoupled = using_decoupled_model_transaction_policy(model.config)
        self._abandoned = Abandoned(self._name)
        bls.enter(bls.Stage.BESIDE, self._name, self.server)
        REGISTRY.connect(self.server, self._name)
        try:
            python_class = model_file.model_class(model)
            if not hasattr(python_class, "execute"):
                raise InternalError(
                    f"Python model {model_file.path_of(model)} does not implement `execute` method."
                )
            self._most_executions = most_executions(model, python_class)
            python_model = python_class()
            if hasattr(python_model, "initialize"):
                python_model.initialize(_arguments(model))
            REGISTRY.flush()
        except _FAILURES as error:
            raise _load_failure(model, error) from error
        self._python_model = python_model
        if hasattr(python_model, "is_ready"):
            self._readiness = ReadinessHook(self._name, python_model, self._event_loop)
        bls.enter(bls.Stage.SERVING)

    def execute(self, requests: Sequence[Request]) -> list[Response | None]:
        """Run the model's `execute`; whatever goes wrong in it becomes the requests' error."""
        received = self._received(requests)
        try:
            returned = self._python_model.execute(received.copy())
            if type(returned) is not list and asyncio.iscoroutine(returned):
                if self._decoupled and self._most_executions is None:
                    return self._in_background(returned, received)
                returned = self._event_loop.run(returned)
        except _FAILURES as error:
            return self._raised(received, error)
        return self._answers(received, returned)

    def begin(self, requests: Sequence[Request], done: Callable[[], None]) -> Finish:
        """Have the model's `async def execute` go on while others begin."""
        received = self._received(requests)
        coroutine = self._python_model.execute(received.copy())
        outcome = self._event_loop.spawn(coroutine, lambda _: done())
        return functools.partial(self._finish, received, outcome)

    def _finish(
        self, received: list[ReceivedRequest], outcome: Future[Any]
    ) -> list[Response | None]:
        try:
            returned = outcome.result()
        except _FAILURES as error:
            return self._raised(received, error)
        return self._answers(received, returned)

    def _received(self, requests: Sequence[Request]) -> list[ReceivedRequest]:
        decoupled, abandoned = self._decoupled, self._abandoned
        return [
            ReceivedRequest(request, Answer(request, decoupled, abandoned)) for request in requests
        ]

    def _raised(
        self, received: list[ReceivedRequest], error: BaseException
    ) -> list[Response | None]:
        self._log_failure("Executing", error)
        REGISTRY.flush()
        return self._failed(received, failures.summary(error))

    def _answers(self, received: list[ReceivedRequest], returned: Any) -> list[Response | None]:
        try:
            return self._taken(received, returned)
        except TritonModelException as error:
            logger.error("Executing model '%s' failed: %s", self._name, error)
            return self._failed(received, str(error))
        finally:
            REGISTRY.flush()

    def unload(self) -> None:
        """Have the model finalize itself; an exception in it is only logged."""
        self._event_loop.stop()
        bls.enter(bls.Stage.BESIDE)
        python_model, self._python_model = self._python_model, None
        if hasattr(python_model, "finalize"):
            try:
                python_model.finalize()
            except _FAILURES as error:
                self._log_failure("Finalizing", error)
        self._abandoned.stop()
        REGISTRY.flush()

    def _taken(self, received: list[ReceivedRequest], returned: Any) -> list[Response | None]:
        """The answers that `execute` returned.

        Raises TritonModelException when it returned something else; then no request is ended.
        """
        if returned is None:
            returned = [None] * len(received)
        elif self._decoupled:
            raise self._must_return_none()
        _check(received, returned)
        if None in returned:
            self._abandoned.start()
        return [
            _without_response(request) if response is None else request.answer.take(response)
            for request, response in zip(received, returned, strict=True)
        ]

    def _failed(self, received: list[ReceivedRequest], reason: str) -> list[Response | None]:
        """End every request that has no final response yet."""
        error = self._failure(reason)
        return [request.answer.fail(error) for request in received]

    def _in_background(
        self, coroutine: Coroutine[Any, Any, Any], received: list[ReceivedRequest]
    ) -> list[Response | None]:
        """Let a decoupled model's coroutine run on while further batches are executed."""
        self._abandoned.start()
        self._event_loop.spawn(coroutine, functools.partial(self._background_done, received))
        return [None] * len(received)

    def _background_done(self, received: list[ReceivedRequest], outcome: Future[Any]) -> None:
        """End what a coroutine left open when it failed; otherwise its threads may go on."""
        if outcome.cancelled():
            reason = "the model is being unloaded"
        elif (error := outcome.exception()) is not None:
            self._log_failure("Executing", error)
            reason = failures.summary(error)
        elif outcome.result() is not None:
            reason = str(self._must_return_none())
            logger.error("Executing model '%s' failed: %s", self._name, reason)
        else:
            received = [request for request in received if request.wants_rescheduling]
            reason = (
                "a request can be rescheduled only until execute returns, which a coroutine of a "
                "decoupled model does at once; leave out `async`"
            )
        failure = self._failure(reason)
        for request in received:
            request.answer.fail_now(failure)

    def _must_return_none(self) -> TritonModelException:
        return TritonModelException(
            f"Python model '{self._name}' is using the decoupled mode and the execute function "
            "must return None."
        )

    def _failure(self, reason: str) -> InternalError:
        return InternalError(
            f"Failed to process the request(s) for model '{self._name}', message: {reason}"
        )

    def _log_failure(self, doing: str, error: BaseException) -> None:
        logger.error("%s model '%s' failed:\n%s", doing, self._name, failures.story(error))


def _check(received: list[ReceivedRequest], returned: Any) -> None:
    """Raise TritonModelException unless `execute` returned one answer to each open request."""
    if not isinstance(returned, list):
        raise TritonModelException(
            f"Expected a list in the execute return, found type '{_class_of(returned)}'."
        )
    responses = cast("list[object]", returned)
    if len(responses) != len(received):
        raise TritonModelException(
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            f"objects. InferenceRequest(s) size is:{len(received)}, and InferenceResponse(s) size "
            f"is:{len(responses)}\n"  # the line end is Triton's
        )
    for request, response in zip(received, responses, strict=True):
        if response is None:
            continue
        if request.wants_rescheduling:
            raise TritonModelException(
                "Expected a None object in the execute function return list for reschduled "
                f"request, found type '{_class_of(response)}'."  # the spelling is Triton's
            )
        if not isinstance(response, InferenceResponse):
            raise TritonModelException(
                "Expected an 'InferenceResponse' object in the execute function return list, "
                f"found type '{_class_of(response)}'."
            )
        request.answer.require_open()


def _without_response(request: ReceivedRequest) -> Response | None:
    """What becomes of a request that execute returned no response to."""
    return request.reschedule() if request.wants_rescheduling else None


def _class_of(value: object) -> str:
    """The text of a value's class: one of ours goes by the name that it has in Triton."""
    kind = type(value)
    if kind.__module__.startswith(__package__ or __name__):
        return f"<class 'c_python_backend_utils.{kind.__name__}'>"
    return str(kind)


def _arguments(model: Model) -> dict[str, str]:
    """What `initialize` is given: all of it text; beyond Triton, a backend's own settings too."""
    arguments = {
        "model_config": json.dumps(model.config),
        "model_instance_kind": model.instance.kind,
        "model_instance_name": model.instance.name,
        "model_instance_device_id": str(model.instance.device),
        "model_repository": model.directory,
        "model_version": str(model.version),
        "model_name": model.name,
    }
    if model.runtime:
        arguments["backend_config"] = json.dumps(dict(model.backend_config))
    return arguments


def _load_failure(model: Model, error: BaseException) -> StatusError:
    """A model's exception as the reason why it did not load."""
    if isinstance(error, StatusError):
        return error
    logger.error("Loading model '%s' failed:\n%s", model.name, failures.story(error))
    return InternalError(failures.summary_with_place(error, model_file.folder_of(model)))


def _refuse_unsupported(model: Model) -> None:
    """Raise UnsupportedError for parameters of the configuration that cannot be honoured."""
    force_cpu = model.parameter(_FORCE_CPU)
    if force_cpu not in (None, "yes", "no"):
        raise UnsupportedError(
            f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {force_cpu}; expected yes or no"
        )
