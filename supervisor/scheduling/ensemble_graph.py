"""Pure: what feeds what in an ensemble, and which steps a set of wanted outputs needs.

Every tensor has an origin: the request, or the decoupled step whose responses it goes back to. A
decoupled step begins a pass with each of its responses, and everything that goes back to that
response happens within the pass. So the tensors of a pass are complete in themselves, and a step
may only read tensors of one origin; so must the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: The origin of what comes with the request.
REQUEST = -1


@dataclass(frozen=True, slots=True)
class Step:
    """A model of an ensemble; both maps go from the model's tensors to the ensemble's.

    `version` is None for the latest, `home` the namespace where the model is looked for first.
    `ranks` are the dimensions of the model's inputs, with that of
    the batch where the model `batches`.
    """

    model: str
    version: int | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    decoupled: bool = False
    batches: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict[str, int])
    home: str = ""


class MixedOriginsError(ValueError):
    """Raised when a step, or (None) the answer, goes back to several decoupled steps at once."""

    def __init__(self, step: int | None) -> None:
        super().__init__("tensors of different origins meet")
        self.step = step


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens for one set of wanted outputs.

    Of the tensors, those that somebody needs: which steps read each, and how often it is read in
    all, the answer included. `needs` are the tensors that each step waits for.
    """

    wanted: tuple[str, ...]
    origin: int
    needs: Mapping[int, frozenset[str]]
    readers: Mapping[str, tuple[int, ...]]
    uses: Mapping[str, int]

    def outputs(self, step: Step) -> list[str]:
        """The model's outputs that somebody needs."""
        return [name for name, tensor in step.outputs.items() if tensor in self.uses]


class Graph:
    """The steps of an ensemble. Raises MixedOriginsError for tensors that cannot meet."""

    def __init__(
        self, steps: Sequence[Step], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self.steps = tuple(steps)
        self.inputs = tuple(inputs)
        self._writer = {
            tensor: index for index, step in enumerate(steps) for tensor in step.outputs.values()
        }
        self._origins: dict[int, int] = {}
        for index in range(len(self.steps)):
            self.origin(index)
        if len({self._origin_of(tensor) for tensor in outputs}) > 1:
            raise MixedOriginsError(None)
        self._plans: dict[tuple[str, ...], Plan] = {}

    @property
    def is_decoupled(self) -> bool:
        """Whether any step may answer any number of times."""
        return any(step.decoupled for step in self.steps)

    def origin(self, step: int) -> int:
        """The origin of what a step reads."""
        found = self._origins.get(step)
        if found is None:
            origins = {self._origin_of(tensor) for tensor in self.steps[step].inputs.values()}
            if len(origins) > 1:
                raise MixedOriginsError(step)
            found = self._origins[step] = origins.pop() if origins else REQUEST
        return found

    def plan(self, wanted: Sequence[str]) -> Plan:
        """What has to be done for these outputs; steps that contribute nothing are left out."""
        key = tuple(wanted)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._planned(key)
        return plan

    def _planned(self, wanted: tuple[str, ...]) -> Plan:
        steps: set[int] = set()
        looked_at = list(wanted)
        while looked_at:
            writer = self._writer.get(looked_at.pop())
            if writer is not None and writer not in steps:
                steps.add(writer)
                looked_at += self.steps[writer].inputs.values()
        uses = dict.fromkeys(wanted, 1)
        readers: dict[str, list[int]] = {tensor: [] for tensor in wanted}
        for index in sorted(steps):
            for tensor in self.steps[index].inputs.values():
                uses[tensor] = uses.get(tensor, 0) + 1
                waiting = readers.setdefault(tensor, [])
                if index not in waiting:
                    waiting.append(index)
        return Plan(
            wanted,
            self._origin_of(wanted[0]) if wanted else REQUEST,
            {index: frozenset(self.steps[index].inputs.values()) for index in sorted(steps)},
            {tensor: tuple(found) for tensor, found in readers.items()},
            uses,
        )

    def _origin_of(self, tensor: str) -> int:
        writer = self._writer.get(tensor)
        if writer is None:
            return REQUEST
        return writer if self.steps[writer].decoupled else self.origin(writer)


def fitted(shape: tuple[int, ...], rank: int, batches: bool) -> tuple[int, ...]:
    """The shape of a tensor as its reader, who may or may not batch, expects it.

    Between a model that batches and one that does not, a batch of one row comes or goes.
    """
    if batches and len(shape) + 1 == rank:
        return (1, *shape)
    if not batches and len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    return shape
