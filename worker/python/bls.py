"""Business logic scripting: requests that a model makes of others, while it executes."""

from __future__ import annotations

import asyncio
from enum import Enum

from ...ipc.errors import InternalError, StatusError
from ..peers import Conversation, Outgoing, Peers, Reply
from .errors import TritonModelException
from .response_iterator import ResponseIterator
from .responses import InferenceResponse, received_response

Answer = InferenceResponse | ResponseIterator


class Stage(Enum):
    """How far the model of this worker is."""

    # There is no model, or it is asked about its configuration only.
    OUTSIDE = "outside"
    # It initializes or finalizes itself: it may ask about models, and not call them.
    BESIDE = "beside execute"
    # It takes requests.
    SERVING = "serving"


class _Place:
    """Where the model's code runs: a process serves one instance of one model."""

    stage = Stage.OUTSIDE
    peers: Peers | None = None
    #: The name of the instance, for messages.
    instance = ""


def enter(stage: Stage, instance: str = "", peers: Peers | None = None) -> None:
    """Say how far the model is, and at first which instance this is and what it asks."""
    _Place.stage = stage
    if peers is not None:
        _Place.peers, _Place.instance = peers, instance


def peers_of(what: str) -> tuple[Peers, str]:
    """The way to other models, and the name of this instance, for anything but a request.

    Raises TritonModelException where there is none.
    """
    if _Place.peers is None or _Place.stage is Stage.OUTSIDE:
        raise TritonModelException(
            f"{what} is only available to a model in a worker, from `initialize` on."
        )
    return _Place.peers, _Place.instance


def execute(outgoing: Outgoing) -> Answer:
    """Have a model answer a request, and wait for that. An error is an answer too.

    Raises TritonModelException outside of execute.
    """
    peers = _serving()
    try:
        conversation = peers.ask(outgoing)
        if outgoing.decoupled:
            return ResponseIterator(conversation)
        return received_response(conversation.next())
    except StatusError as error:
        return _failure(outgoing, error)


def execute_async(outgoing: Outgoing) -> asyncio.Future[Answer]:
    """Have a model answer a request; awaited is its answer, or the first of many.

    Raises RuntimeError without a running event loop, TritonModelException outside of execute.
    """
    loop = asyncio.get_running_loop()
    peers = _serving()
    future: asyncio.Future[Answer] = loop.create_future()

    def arrived() -> None:
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            pass  # the loop is closed: nobody awaits it

    def settle() -> None:
        if not future.done():  # else it was cancelled
            future.set_result(_first(outgoing, conversation))

    def forget(done: asyncio.Future[Answer]) -> None:
        if done.cancelled():
            conversation.forget()

    try:
        conversation = peers.ask(outgoing, arrived)
    except StatusError as error:
        future.set_result(_failure(outgoing, error))
    else:
        future.add_done_callback(forget)
    return future


def _first(outgoing: Outgoing, conversation: Conversation) -> Answer:
    """The answer whose first reply is there."""
    reply = conversation.next()
    if outgoing.decoupled:
        return ResponseIterator(conversation, reply)
    return received_response(reply)


def _serving() -> Peers:
    if _Place.stage is not Stage.SERVING or _Place.peers is None:
        raise TritonModelException("BLS is only supported during the 'execute' function.")
    return _Place.peers


def _failure(outgoing: Outgoing, error: StatusError) -> Answer:
    """The answer to a request that could not be sent, in Triton's words."""
    text = f"Model {outgoing.model} - Error when running inference: {error.message}"
    reply = Reply(error=InternalError(text))
    return ResponseIterator(None, reply) if outgoing.decoupled else received_response(reply)
