"""What an instance answers, as it is sent: outputs in their places, or an error in words."""

from __future__ import annotations

import logging

import msgspec

from ..ipc import messages
from ..ipc.errors import InternalError, StatusError
from ..ipc.messages import Parameter
from ..ipc.tensor import Tensor
from .backend import Array, Model
from .inbox import Inbox
from .memory import Memory

log = logging.getLogger("tritonpy.worker")

#: What a framework or a model's own code may raise; sys.exit in it fails the call, not the worker.
FAILURES = (Exception, SystemExit)

_encode_parameters = msgspec.msgpack.Encoder().encode
_decode_parameters = msgspec.msgpack.Decoder(dict[str, Parameter]).decode


class Answers:
    """Makes the messages that answer the requests of one model; from any thread."""

    def __init__(self, model: Model, memory: Memory, inbox: Inbox) -> None:
        self._model = model
        self._memory = memory
        self._inbox = inbox

    def answer(
        self,
        asked: messages.Request,
        arrays: dict[str, Array],
        parameters: dict[str, Parameter],
        final: bool,
    ) -> messages.Response:
        """A response with these outputs. Raises whatever is wrong with them; nothing is kept."""
        if parameters:
            parameters = self._sendable(parameters)
        memory, wanted, places = self._memory, asked.outputs, asked.places
        tensors: list[Tensor] = []
        try:
            for name, array in arrays.items():
                if name in wanted:
                    if places and name in places:
                        tensors.append(memory.place_in_region(name, array, places[name]))
                    else:
                        tensors.append(memory.place(name, array, self._inbox.wait_for))
        except BaseException:
            self._memory.discard(tensors)
            self._inbox.wake()
            raise
        return messages.Response(asked.key, tensors, final, None, parameters)

    def _sendable(self, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        """The parameters as the supervisor will read them. Raises InternalError if it could not."""
        try:
            return _decode_parameters(_encode_parameters(parameters))
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise InternalError(
                f"model '{self._model.name}' version {self._model.version} returned parameters "
                f"that cannot be sent, expected text, numbers and booleans: {error}"
            ) from None

    def failure(self, key: int, error: BaseException, final: bool = True) -> messages.Response:
        failure = messages.error_of(self.status_of(error))
        return messages.Response(key, [], final, failure)

    def status_of(self, error: BaseException) -> StatusError:
        """What the clients are told; what only the operator should see goes to the log."""
        if isinstance(error, StatusError):
            return error
        log.error(
            "executing model '%s' version %d failed",
            self._model.name,
            self._model.version,
            exc_info=error,
        )
        return InternalError(
            f"model '{self._model.name}' version {self._model.version} failed: {text_of(error)}"
        )


def text_of(error: BaseException) -> str:
    """An exception's type and words, also where its own words cannot be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # the model's own class may do anything in __str__
        return type(error).__name__
