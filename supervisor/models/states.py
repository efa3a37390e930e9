"""The states of a model version and the table of their transitions.

    UNKNOWN ──> LOADING ──> READY ──> UNLOADING ──> UNAVAILABLE
                   │          │ ↺         │             │
                   │          │           └──> LOADING <┘
                   │       (reload: the old one serves)
                   └──────────────> UNAVAILABLE ──> LOADING

A reload happens inside READY: the new one is prepared beside the old one, and whether it succeeds
or fails, a version is READY before and after. A version may be loaded again while what served
before is still finishing its requests.
"""

from __future__ import annotations

from enum import Enum


class VersionState(Enum):
    """What a client may expect of a model version, in Triton's words."""

    #: Found in a repository; nobody has asked for it.
    UNKNOWN = "UNKNOWN"
    #: Being loaded for the first time, or again after it was unavailable.
    LOADING = "LOADING"
    #: Answers requests.
    READY = "READY"
    #: Takes no new requests; those that it has are being finished.
    UNLOADING = "UNLOADING"
    #: Does not serve; there is a reason.
    UNAVAILABLE = "UNAVAILABLE"


class VersionEvent(Enum):
    """What can happen to a model version."""

    LOAD_REQUESTED = "load requested"
    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    UNLOAD_REQUESTED = "unload requested"
    UNLOADED = "unloaded"


_S, _E = VersionState, VersionEvent

TRANSITIONS: dict[tuple[VersionState, VersionEvent], VersionState] = {
    (_S.UNKNOWN, _E.LOAD_REQUESTED): _S.LOADING,
    (_S.UNKNOWN, _E.UNLOAD_REQUESTED): _S.UNKNOWN,
    (_S.LOADING, _E.LOADED): _S.READY,
    (_S.LOADING, _E.LOAD_FAILED): _S.UNAVAILABLE,
    (_S.READY, _E.LOAD_REQUESTED): _S.READY,
    (_S.READY, _E.LOADED): _S.READY,
    (_S.READY, _E.LOAD_FAILED): _S.READY,
    (_S.READY, _E.UNLOAD_REQUESTED): _S.UNLOADING,
    (_S.UNLOADING, _E.UNLOADED): _S.UNAVAILABLE,
    (_S.UNLOADING, _E.LOAD_REQUESTED): _S.LOADING,
    (_S.UNLOADING, _E.UNLOAD_REQUESTED): _S.UNLOADING,
    (_S.UNAVAILABLE, _E.LOAD_REQUESTED): _S.LOADING,
    (_S.UNAVAILABLE, _E.UNLOAD_REQUESTED): _S.UNAVAILABLE,
}


class InvalidTransition(Exception):
    """Raised when something happens that cannot happen in this state: a bug of ours."""

    def __init__(self, subject: str, state: VersionState, event: VersionEvent) -> None:
        super().__init__(f"{subject}: '{event.value}' cannot happen in state {state.value}")


def transition(subject: str, state: VersionState, event: VersionEvent) -> VersionState:
    """The state after the event. Raises InvalidTransition that tells whose it was."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(subject, state, event) from None
