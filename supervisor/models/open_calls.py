"""The calls between models that are not answered, and which of them never would be.

An instance that waits for a call cannot execute anything else meanwhile. When a model calls itself,
or models call each other in a circle, all instances that could run a request may be waiting for its
answer: such a call is refused when it is made. What has become of the others is looked up then;
nothing is kept up to date in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from functools import partial

from ...ipc.errors import InternalError
from ..request import InferRequest
from ..scheduling.ensemble import EnsembleScheduler
from ..scheduling.scheduler import Seat
from ..scheduling.sequence import SequenceScheduler
from ..scheduling.waits import Need, Waiting, stuck
from ..workers.calls import Execution, ModelCall
from ..workers.instance import Instance
from ..workers.pool import Pool
from ..workers.states import ENDED
from .model import ServedVersion

#: What may wait for a call: an execution, or the answer to another call.
Holder = Execution | ModelCall


class OpenCalls:
    """All calls of all models that are not answered for the last time."""

    def __init__(self) -> None:
        self._calls: dict[ModelCall, ServedVersion] = {}

    def __repr__(self) -> str:
        return f"<OpenCalls: {len(self._calls)}>"

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: ModelCall, served: ServedVersion) -> None:
        """A call is about to be made of this version.

        Raises InternalError when it would never be answered.
        """
        if call.execution is not None or call.serves is not None:
            waiting = [
                Waiting(_holders(other), list(_needs(other, of)))
                for other, of in self._calls.items()
            ]
            waiting.append(Waiting(_holders(call), list(_runs(served, call.request))))
            if len(self._calls) in stuck(waiting):
                raise _refusal(served)
        self._calls[call] = served

    def discard(self, call: ModelCall) -> None:
        """A call has its last answer, or was not made after all."""
        self._calls.pop(call, None)


def _holders(call: ModelCall) -> list[Holder]:
    """What does not end before a call is answered."""
    found: list[Holder] = []
    if call.execution is not None and call.execution.is_under_way:
        found.append(call.execution)
    if isinstance(call.serves, ModelCall):
        found.append(call.serves)
    return found


def _needs(call: ModelCall, served: ServedVersion) -> Iterator[Need[Holder]]:
    """What an open call needs to be answered: where it is, that its execution ends."""
    yield partial(_is_held, call)
    if isinstance(served.pool, Pool) and call.work is not None:
        for instance in served.pool.instances:
            if instance.work_of(call.work.key) is not None:
                execution = instance.execution_of(call.work)
                if execution is not None:
                    yield partial(_is_held, execution)
                    return
                if not instance.is_ahead(call.work):
                    return  # executed, and answered when its model likes
    yield from _runs(served, call.request)


def _runs(served: ServedVersion, request: InferRequest) -> Iterator[Need[Holder]]:
    """What a request needs to be run: an instance, or one of each model in an ensemble."""
    scheduler = served.scheduler
    if isinstance(scheduler, EnsembleScheduler):
        for callee in scheduler.callees(request):
            assert isinstance(callee, ServedVersion)
            yield from _runs(callee, InferRequest(callee.name, callee.version, []))
    elif isinstance(served.pool, Pool):
        seat = scheduler.seat_of(request) if isinstance(scheduler, SequenceScheduler) else None
        yield partial(_can_never_run, served.pool, seat)


def _is_held(holder: Holder, blocked: Set[Holder]) -> bool:
    return holder in blocked


def _can_never_run(pool: Pool, seat: Seat | None, blocked: Set[Holder]) -> bool:
    """Whether no instance can take a request, or this one, while these do not end."""
    serving = [
        instance
        for instance in pool.staying
        if not instance.recipe.passive and instance.state not in ENDED and seat in (None, instance)
    ]
    executions = [holder for holder in blocked if isinstance(holder, Execution)]
    held = [holder.instance for holder in executions if isinstance(holder.instance, Instance)]
    return bool(serving) and all(_never(one, pool, blocked, held) for one in serving)


def _never(instance: Instance, pool: Pool, blocked: Set[Holder], held: Sequence[Instance]) -> bool:
    executing = instance.executing
    most = 1 if pool.turns is not None else instance.concurrency
    if len(executing) >= most and all(Execution(instance, n) in blocked for n in executing):
        return True
    others = [other for other in held if other is not instance]
    return pool.turns is not None and pool.turns.never(instance, others)


def _refusal(served: ServedVersion) -> InternalError:
    return InternalError(
        f"the request would wait for ever: every instance of model '{served.name}' version "
        f"{served.version}, or of a model in it, that could run it waits itself for the answer, "
        "directly or by other models; give the model more instances, or have models not call each "
        "other in a circle"
    )
