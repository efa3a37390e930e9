"""What the supervisor must know to start a worker for a model instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...ipc.messages import Instance, ModelFiles
from ..config.worker_limits import WorkerLimits
from ..memory.buffers import InputArena
from ..scheduling.rate_limiter import Demand
from .host_policy import HostPolicy
from .restarts import RestartPolicy


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that is needed to start a worker for an instance, the first time and every time."""

    files: ModelFiles
    instance: Instance
    environment: Mapping[str, str]
    backend_config: Mapping[str, str]
    inputs: InputArena
    output_arena_size: int
    start_timeout: float
    restart_policy: RestartPolicy
    #: What runs a worker, before each worker's arguments; empty for the server's own Python.
    command: Sequence[str] = ()
    #: The one GPU that it is on, by the server's number; None for the CPU, and for all GPUs.
    gpu: int | None = None
    #: What it needs of the rate limiter's resources, where that is on.
    demand: Demand = field(default_factory=Demand)
    host_policy: HostPolicy = field(default_factory=HostPolicy)
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    #: It is loaded, and never given requests.
    passive: bool = False

    @property
    def signature(self) -> tuple[object, ...]:
        """What an instance must have in common with another to stand for it."""
        visible = self.environment.get("CUDA_VISIBLE_DEVICES", "")
        return self.instance.kind, visible, self.demand, self.host_policy, self.passive


def match(wanted: Sequence[Recipe], there: Sequence[Recipe]) -> tuple[list[int], list[int]]:
    """Which of the recipes that are wanted are missing, and which that are there are superfluous.

    A recipe stands for any other with the same signature; those with the same name go first.
    """
    missing, superfluous = list(range(len(wanted))), list(range(len(there)))
    for same_name in (True, False):
        for i in list(missing):
            for j in superfluous:
                named_alike = wanted[i].instance.name == there[j].instance.name
                if wanted[i].signature == there[j].signature and (named_alike or not same_name):
                    missing.remove(i)
                    superfluous.remove(j)
                    break
    return missing, superfluous
