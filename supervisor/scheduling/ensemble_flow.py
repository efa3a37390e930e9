"""Pure: one request on its way through an ensemble. Events in, instructions out.

    begin ── what is given ──> [ Run, Run ]
    responded ── outputs of a run ──> [ Run, Answer ]

A step runs as soon as it is known of each of its tensors what it is, or that there is none: an
optional input that was not given, an output that the model left out. Values are whatever the
caller says; they are let go of when the last reader has taken them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .ensemble_graph import REQUEST, Graph, Plan

V = TypeVar("V")


class _Pass(Generic[V]):
    """What goes back to the request, or to one response of a decoupled step."""

    __slots__ = ("answer", "awaited", "known", "missing", "unstarted")

    def __init__(self, plan: Plan) -> None:
        #: What is known, until nobody reads it any more.
        self.known: dict[str, V] = {}
        #: How many steps have still to take a tensor.
        self.unstarted = {tensor: len(readers) for tensor, readers in plan.readers.items()}
        #: How many tensors a step waits for.
        self.missing = {step: len(tensors) for step, tensors in plan.needs.items()}
        self.answer: dict[str, V] = {}
        #: The wanted outputs of which nothing is known.
        self.awaited = set(plan.wanted)


@dataclass(slots=True, eq=False)
class Run(Generic[V]):
    """Run a step once; `inputs` are by the names of its model, without those that there are not."""

    step: int
    inputs: dict[str, V]
    within: _Pass[V] = field(repr=False)
    #: Its outputs are known (a step that is not decoupled).
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """Answer with these outputs of the ensemble; nothing follows a final answer."""

    outputs: dict[str, V]
    final: bool = False


class Flow(Generic[V]):
    """The state of one request.

    At most `limit` runs of a step that a decoupled one feeds are under way at a time; 0 is no
    limit.
    """

    def __init__(self, graph: Graph, plan: Plan, limit: int = 0) -> None:
        self._graph = graph
        self._plan = plan
        self._limit = limit
        #: Runs that have been asked for and have not ended.
        self._running = 0
        self._running_of: dict[int, int] = {}
        #: Runs beyond the limit, by step.
        self._held: dict[int, deque[Run[V]]] = {}
        self._done = False

    def __repr__(self) -> str:
        held = sum(len(runs) for runs in self._held.values())
        return f"<Flow to {list(self._plan.wanted)}: {self._running} running, {held} held>"

    def begin(self, given: Mapping[str, V]) -> list[Run[V] | Answer[V]]:
        """The request has come with these inputs of the ensemble."""
        todo: list[Run[V] | Answer[V]] = []
        root: _Pass[V] = _Pass(self._plan)
        for tensor in self._graph.inputs:
            self._settle(root, tensor, given.get(tensor), todo)
        return self._closed(todo)

    def responded(
        self, run: Run[V], outputs: Mapping[str, V], final: bool
    ) -> list[Run[V] | Answer[V]]:
        """A run has produced these outputs of its model; with `final` it has ended.

        A response without outputs that is not final says nothing.
        """
        todo: list[Run[V] | Answer[V]] = []
        step = self._graph.steps[run.step]
        if step.decoupled:
            if outputs:
                self._produce(_Pass(self._plan), step.outputs, outputs, todo)
        elif not run.settled and (outputs or final):
            run.settled = True
            self._produce(run.within, step.outputs, outputs, todo)
        if final:
            self._ended(run.step, todo)
        return self._closed(todo)

    def _produce(
        self,
        within: _Pass[V],
        names: Mapping[str, str],
        outputs: Mapping[str, V],
        todo: list[Run[V] | Answer[V]],
    ) -> None:
        for name, tensor in names.items():
            self._settle(within, tensor, outputs.get(name), todo)

    def _settle(
        self, within: _Pass[V], tensor: str, value: V | None, todo: list[Run[V] | Answer[V]]
    ) -> None:
        """It is known now what a tensor is, or (None) that there is none."""
        readers = self._plan.readers.get(tensor)
        if readers is None:
            return  # nobody needs it
        if value is not None:
            within.known[tensor] = value
        if tensor in within.awaited:
            within.awaited.discard(tensor)
            if value is not None:
                within.answer[tensor] = value
            if not within.awaited:
                self._answer(within, todo)
        if not readers:
            within.known.pop(tensor, None)
        for step in readers:
            within.missing[step] -= 1
            if not within.missing[step]:
                self._start(step, within, todo)

    def _start(self, step: int, within: _Pass[V], todo: list[Run[V] | Answer[V]]) -> None:
        names = self._graph.steps[step].inputs
        inputs = {name: within.known[t] for name, t in names.items() if t in within.known}
        for tensor in self._plan.needs[step]:
            within.unstarted[tensor] -= 1
            if not within.unstarted[tensor]:
                within.known.pop(tensor, None)
        run = Run(step, inputs, within)
        limited = self._limit and self._graph.origin(step) != REQUEST
        if limited and self._running_of.get(step, 0) >= self._limit:
            self._held.setdefault(step, deque()).append(run)
            return
        self._running += 1
        self._running_of[step] = self._running_of.get(step, 0) + 1
        todo.append(run)

    def _ended(self, step: int, todo: list[Run[V] | Answer[V]]) -> None:
        held = self._held.get(step)
        if held:
            todo.append(held.popleft())
            return
        self._running -= 1
        self._running_of[step] -= 1

    def _answer(self, within: _Pass[V], todo: list[Run[V] | Answer[V]]) -> None:
        outputs = {name: within.answer[name] for name in self._plan.wanted if name in within.answer}
        within.answer = {}
        if outputs:
            todo.append(Answer(outputs))

    def _closed(self, todo: list[Run[V] | Answer[V]]) -> list[Run[V] | Answer[V]]:
        """The instructions, the last of which is final when nothing runs any more."""
        if self._running or self._done:
            return todo
        self._done = True
        if todo and isinstance(todo[-1], Answer):
            todo[-1] = Answer(todo[-1].outputs, final=True)
        else:
            todo.append(Answer({}, final=True))
        return todo
