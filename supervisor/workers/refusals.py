"""When a request is not even queued, because no instance will run it soon."""

from __future__ import annotations

import time
from collections.abc import Iterable

from .instance import Instance
from .states import WorkerState

#: While no instance is up, requests wait if the next start is no further away than this (seconds).
PATIENCE = 2.0


def refusal_of(model: str, version: int, instances: Iterable[Instance]) -> str | None:
    """Why no request may be queued now, or None when it may.

    Requests wait for a worker that is about to come back, not for one that keeps crashing.
    """
    serving: list[Instance] = []
    for instance in instances:
        if not instance.recipe.passive:
            if instance.state is WorkerState.READY:
                return None
            serving.append(instance)
    if not serving:
        return (
            f"model '{model}' version {version} has passive instances only, which take no requests"
        )
    soonest = None
    for instance in serving:
        if instance.state is WorkerState.BACKOFF:
            at = instance.restart_at
            soonest = at if soonest is None else min(soonest, at)
        elif instance.state in (WorkerState.STARTING, WorkerState.LOADING):
            return None
    if soonest is not None and soonest - time.monotonic() <= PATIENCE:
        return None
    causes = dict.fromkeys(instance.cause for instance in serving if instance.cause)
    return (
        f"model '{model}' version {version} has no instance that runs"
        f"{': ' + '; '.join(causes) if causes else ''}"
    )
