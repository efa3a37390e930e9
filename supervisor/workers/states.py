"""The states of a worker process and the table of their transitions.

    STARTING ──> LOADING ──> READY ──> STOPPING ──> EXITED
        │            │         │
        └────────────┴────┬────┘
                       BACKOFF ──> STARTING (again), or FATAL

Busy is a count, not a state. Nothing here knows of processes or clocks.
"""

from __future__ import annotations

from enum import Enum


class WorkerState(Enum):
    """Where a worker process is in its life."""

    #: Spawned; has not said that it is up.
    STARTING = "STARTING"
    #: Up; describing or loading its model.
    LOADING = "LOADING"
    #: The model is loaded and takes requests.
    READY = "READY"
    #: Told to finalize its model and exit.
    STOPPING = "STOPPING"
    #: Died or failed to load after it had once been wanted; waits for its next start.
    BACKOFF = "BACKOFF"
    #: Ended as it was told to.
    EXITED = "EXITED"
    #: Ended for good: the first load failed, or it failed too often.
    FATAL = "FATAL"


class WorkerEvent(Enum):
    """What can happen to a worker process."""

    #: The operating system has made the process.
    SPAWNED = "spawned"
    #: The process has said that it is up.
    STARTED = "started"
    #: The model is loaded.
    LOADED = "loaded"
    #: We want it to end.
    STOP_REQUESTED = "stop requested"
    #: The process has ended, and is to be started again.
    LOST = "lost"
    #: The process has ended, and is not to be started again.
    GIVEN_UP = "given up"
    #: The process has ended as it was told to.
    EXITED = "exited"


_S, _E = WorkerState, WorkerEvent

TRANSITIONS: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (_S.STARTING, _E.STARTED): _S.LOADING,
    (_S.STARTING, _E.STOP_REQUESTED): _S.STOPPING,
    (_S.STARTING, _E.LOST): _S.BACKOFF,
    (_S.STARTING, _E.GIVEN_UP): _S.FATAL,
    (_S.LOADING, _E.LOADED): _S.READY,
    (_S.LOADING, _E.STOP_REQUESTED): _S.STOPPING,
    (_S.LOADING, _E.LOST): _S.BACKOFF,
    (_S.LOADING, _E.GIVEN_UP): _S.FATAL,
    (_S.READY, _E.STOP_REQUESTED): _S.STOPPING,
    (_S.READY, _E.LOST): _S.BACKOFF,
    (_S.READY, _E.GIVEN_UP): _S.FATAL,
    (_S.STOPPING, _E.STARTED): _S.STOPPING,
    (_S.STOPPING, _E.LOADED): _S.STOPPING,
    (_S.STOPPING, _E.STOP_REQUESTED): _S.STOPPING,
    (_S.STOPPING, _E.EXITED): _S.EXITED,
    (_S.BACKOFF, _E.SPAWNED): _S.STARTING,
    (_S.BACKOFF, _E.STOP_REQUESTED): _S.EXITED,
    (_S.BACKOFF, _E.GIVEN_UP): _S.FATAL,
    (_S.EXITED, _E.STOP_REQUESTED): _S.EXITED,
    (_S.FATAL, _E.STOP_REQUESTED): _S.FATAL,
}

#: States in which there is a process.
ALIVE = frozenset({_S.STARTING, _S.LOADING, _S.READY, _S.STOPPING})

#: States from which a worker never comes back.
ENDED = frozenset({_S.EXITED, _S.FATAL})


class InvalidTransition(Exception):
    """Raised when something happens that cannot happen in this state: a bug of ours."""

    def __init__(self, subject: str, state: WorkerState, event: WorkerEvent) -> None:
        super().__init__(f"{subject}: '{event.value}' cannot happen in state {state.value}")


def transition(subject: str, state: WorkerState, event: WorkerEvent) -> WorkerState:
    """The state after the event. Raises InvalidTransition that tells whose it was."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(subject, state, event) from None
