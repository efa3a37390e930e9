"""Which of the models that are loaded on demand are loaded now.

        requested           loaded
    ABSENT ──> LOADING ──────────────> RESIDENT ──> ABSENT (evicted)
                  │  ↑ requested          ↺ requested, loaded anew
                  └> FAILED
             load failed

A model is evicted when it has been idle for long, or, the least recently used first, when memory is
short; never while it is used. After a failed load requests are refused for a while, longer each
time, so that a model that cannot be loaded does not keep the machine busy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from .identifier import ModelIdentifier

#: How long requests are refused after the first failed load, and at most (seconds).
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Residence(Enum):
    """Whether a model that is loaded on demand is loaded."""

    #: Not loaded: its next request loads it.
    ABSENT = "absent"
    #: A request has asked for it; it and those that came since wait.
    LOADING = "loading"
    #: Loaded.
    RESIDENT = "resident"
    #: Its last load failed: requests are refused until it is time to try again.
    FAILED = "failed"


class ResidenceEvent(Enum):
    """What can happen to a model that is loaded on demand."""

    REQUESTED = "requested"
    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    EVICTED = "evicted"


_R, _E = Residence, ResidenceEvent

TRANSITIONS: dict[tuple[Residence, ResidenceEvent], Residence] = {
    (_R.ABSENT, _E.REQUESTED): _R.LOADING,
    (_R.ABSENT, _E.LOADED): _R.RESIDENT,
    (_R.LOADING, _E.REQUESTED): _R.LOADING,
    (_R.LOADING, _E.LOADED): _R.RESIDENT,
    (_R.LOADING, _E.LOAD_FAILED): _R.FAILED,
    (_R.RESIDENT, _E.REQUESTED): _R.RESIDENT,
    (_R.RESIDENT, _E.LOADED): _R.RESIDENT,
    (_R.RESIDENT, _E.EVICTED): _R.ABSENT,
    (_R.FAILED, _E.REQUESTED): _R.LOADING,
    (_R.FAILED, _E.LOADED): _R.RESIDENT,
}


class Verdict(Enum):
    """What to do with a request."""

    #: The model is loaded.
    SERVE = "serve"
    #: Load the model; the request waits for it.
    LOAD = "load"
    #: The model is being loaded; the request waits.
    WAIT = "wait"
    #: Loading it has failed a moment ago.
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Eviction:
    """A model to unload, and why, in words for the log."""

    model: ModelIdentifier
    why: str


@dataclass(slots=True)
class _Resident:
    state: Residence = Residence.ABSENT
    #: Requests that use it or wait for it.
    uses: int = 0
    used_at: float = 0.0
    failures: int = 0
    refused_until: float = 0.0
    #: What its last load failed with.
    reason: str = ""


class Residency:
    """Decides about the models that are loaded on demand. Times are seconds on any one clock."""

    def __init__(self, idle_secs: float) -> None:
        #: After so much idle time a model is evicted; 0 for never.
        self._idle_secs = idle_secs
        self._models: dict[ModelIdentifier, _Resident] = {}

    def __repr__(self) -> str:
        loaded = len(self.residents)
        return f"<Residency: {loaded} of {len(self._models)} models loaded>"

    def __len__(self) -> int:
        return len(self._models)

    @property
    def residents(self) -> list[ModelIdentifier]:
        """The models that are loaded."""
        return [one for one, it in self._models.items() if it.state is Residence.RESIDENT]

    def state(self, model: ModelIdentifier) -> Residence:
        """Whether a model is loaded. Raises KeyError for one that is not loaded on demand."""
        return self._models[model].state

    def reason(self, model: ModelIdentifier) -> str:
        """What its last load failed with; "" when it did not."""
        return self._models[model].reason

    # --- what happens -----------------------------------------------------------------------------

    def admit(self, model: ModelIdentifier) -> None:
        """From now on a model is loaded on demand; what was wrong with it may be mended."""
        known = self._models.setdefault(model, _Resident())
        known.failures, known.refused_until, known.reason = 0, 0.0, ""

    def forget(self, model: ModelIdentifier) -> None:
        """A model is not loaded on demand any more."""
        self._models.pop(model, None)

    def request(self, model: ModelIdentifier, now: float) -> Verdict:
        """A request has come; unless it is refused it uses the model until `release`."""
        found = self._models[model]
        before = found.state
        if before is Residence.FAILED and now < found.refused_until:
            return Verdict.REFUSE
        self._happen(model, _E.REQUESTED)
        found.uses += 1
        found.used_at = now
        if before is Residence.RESIDENT:
            return Verdict.SERVE
        return Verdict.WAIT if before is Residence.LOADING else Verdict.LOAD

    def release(self, model: ModelIdentifier, now: float) -> None:
        """A request has ended, or waits no longer."""
        found = self._models.get(model)
        if found is not None and found.uses:
            found.uses -= 1
            found.used_at = now

    def loaded(self, model: ModelIdentifier, now: float) -> None:
        """A model has been loaded, whoever wanted that."""
        self._models.setdefault(model, _Resident())
        self._happen(model, _E.LOADED)
        self._models[model].used_at = now
        self.admit(model)

    def load_failed(self, model: ModelIdentifier, reason: str, now: float) -> None:
        """The load that a request has asked for has failed."""
        found = self._models.get(model)
        if found is None or found.state is not Residence.LOADING:
            return  # it was unloaded for good meanwhile, or somebody else has loaded it
        self._happen(model, _E.LOAD_FAILED)
        pause = min(_FIRST_PAUSE * 2**found.failures, _LONGEST_PAUSE)
        found.failures += 1
        found.refused_until = now + pause
        found.reason = reason

    # --- what must go -----------------------------------------------------------------------------

    def evict(
        self,
        now: float,
        excess_bytes: int = 0,
        sizes: Mapping[ModelIdentifier, int] | None = None,
        busy: Collection[ModelIdentifier] = (),
    ) -> list[Eviction]:
        """The models that must go now, in order; they count as unloaded from now on.

        `excess_bytes` are to be freed, `sizes` what each model would free. Those in `busy` are used
        by somebody beside the requests that came here.
        """
        for model in busy:
            if model in self._models:
                self._models[model].used_at = now
        unused = sorted(
            (self._models[model].used_at, model)
            for model in self.residents
            if not self._models[model].uses and model not in busy
        )
        evicted: list[Eviction] = []
        for used_at, model in unused:
            if self._idle_secs and now - used_at >= self._idle_secs:
                why = f"it was not used for {self._idle_secs:g} seconds"
            elif excess_bytes > 0:
                why = f"memory is short by {excess_bytes} bytes"
            else:
                break  # all others were used later
            evicted.append(Eviction(model, why))
            excess_bytes -= (sizes or {}).get(model, 0)
        for eviction in evicted:
            self._happen(eviction.model, _E.EVICTED)
        return evicted

    def _happen(self, model: ModelIdentifier, event: ResidenceEvent) -> None:
        found = self._models[model]
        found.state = TRANSITIONS[found.state, event]
