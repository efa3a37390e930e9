"""What the supervisor must know to start a worker for a model instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...ipc.messages import Instance, ModelFiles
from ..memory.buffers import InputArena
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

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells instances of a version apart: name, kind and the GPUs that are seen."""
        visible = self.environment.get("CUDA_VISIBLE_DEVICES", "")
        return self.instance.name, self.instance.kind, visible
