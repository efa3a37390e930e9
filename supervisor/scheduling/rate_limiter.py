"""Pure: which instances may run now, by the resources that they need and the turns they had.

An instance names resources and how much of each it needs while it runs a batch. Of a global
resource there is one stock for the server, of any other one for each device. How much there is
follows from the configurations (what the most demanding instance needs, so that each one can run),
or is given on the command line, which then has to name every resource.

Instances of all models that have something to run wait in one line, ordered by their turns: an
instance moves back by its priority with each execution, so that in the long run one of priority 2
runs half as often as one of priority 1. That is Triton's "lowest priority times executions first",
with one amendment: who comes late, or had nothing to run for a while, begins where the others are,
instead of running alone until the counts are even (start-time fair queueing).

The line is walked from its head. Who can have all that it needs goes. Who cannot holds its place:
nobody behind it is given any of what it waits for, so that many small demands cannot starve a large
one; whoever needs nothing of that passes.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ...ipc.errors import InvalidArgumentError
from ..config.schema import ModelRateLimiter

InstanceT = TypeVar("InstanceT", bound=Hashable)

#: The device of a global resource: none, because all share it.
GLOBAL = -1

#: A resource on a device.
Stock = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Demand:
    """What an instance needs while it runs, and its weight: it moves back by so much each turn."""

    needs: Mapping[Stock, int] = field(default_factory=dict[Stock, int])
    priority: int = 1

    @classmethod
    def of(cls, limiter: ModelRateLimiter | None, device: int) -> Demand:
        """The demand of an instance on a device; a resource that is listed twice counts once."""
        if limiter is None:
            return cls()
        needs: dict[Stock, int] = {}
        for resource in limiter.resources:
            stock = (resource.name, GLOBAL if resource.global_ else device)
            needs[stock] = max(needs.get(stock, 0), resource.count)
        return cls(needs, max(1, limiter.priority))


@dataclass(frozen=True, slots=True)
class Explicit:
    """How much there is of a resource by the command line, on one device or (None) on each.

    The device does not count for a global resource.
    """

    name: str
    count: int
    device: int | None = None


class _Member:
    """An instance that is known: its demand, and its place in the line while it stands there."""

    __slots__ = ("demand", "next_turn", "place")

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.next_turn = 0
        #: Its turn, and a number that grows: who came first goes first among equals.
        self.place: tuple[int, int] | None = None


class RateLimiter(Generic[InstanceT]):
    """The stocks of resources, who holds how much of them, and who waits."""

    def __init__(self, explicit: Iterable[Explicit] = ()) -> None:
        self._explicit = tuple(explicit)
        self._members: dict[InstanceT, _Member] = {}
        self._line: dict[InstanceT, _Member] = {}
        self._running: dict[InstanceT, Demand] = {}
        #: What the most demanding instance needs, and what those that run have.
        self._most: dict[Stock, int] = {}
        self._used: dict[Stock, int] = {}
        #: The turn of the one that went last.
        self._turn = 0
        self._arrivals = 0

    def __repr__(self) -> str:
        return (
            f"<RateLimiter: {len(self._members)} instances, {len(self._running)} run, "
            f"{len(self._line)} wait>"
        )

    # --- who there is -----------------------------------------------------------------------------

    def check(self, demands: Iterable[Demand]) -> None:
        """Refuse demands that could never be met beside those that are known.

        Raises InvalidArgumentError in Triton's words.
        """
        most = dict(self._most)
        for demand in demands:
            _raise_to(most, demand)
        everywhere = {name for name, device in most if device == GLOBAL}
        for name, device in most:
            if device != GLOBAL and name in everywhere:
                raise InvalidArgumentError(
                    f'Resource "{name}" is present as both global and device-specific resource in '
                    f"the model configuration."
                )
        for stock, count in sorted(most.items()):
            limit = self._limit(stock)
            if limit is not None and limit < count:
                raise InvalidArgumentError(
                    f'Resource count for "{stock[0]}" is limited to {limit} which will prevent '
                    f"scheduling of one or more model instances, the minimum required count is "
                    f"{count}"
                )

    def join(self, instance: InstanceT, demand: Demand) -> None:
        """Know an instance from now on."""
        self._members[instance] = _Member(demand)
        _raise_to(self._most, demand)

    def leave(self, instance: InstanceT) -> None:
        """Forget an instance, and what it has and waits for."""
        self.release(instance)
        self._line.pop(instance, None)
        if self._members.pop(instance, None) is not None:
            self._most = {}
            for member in self._members.values():
                _raise_to(self._most, member.demand)

    # --- who runs ---------------------------------------------------------------------------------

    def wait(self, instance: InstanceT) -> None:
        """Stand in the line: the instance has something to run. Who stands there stays."""
        member = self._members[instance]
        if instance in self._line or instance in self._running:
            return
        member.next_turn = max(self._turn, member.next_turn)
        self._arrivals += 1
        member.place = (member.next_turn, self._arrivals)
        self._line[instance] = member

    def withdraw(self, instance: InstanceT) -> None:
        """Leave the line: there is nothing to run any more. The turn is not lost."""
        self._line.pop(instance, None)

    def next(self) -> InstanceT | None:
        """Let the first one go that can, and return it; it holds its resources from now on."""
        waited_for: set[Stock] = set()
        for instance, member in self._in_order():
            needs = member.demand.needs
            if waited_for.isdisjoint(needs) and all(map(self._has, needs, needs.values())):
                del self._line[instance]
                self._running[instance] = member.demand
                for stock, count in needs.items():
                    self._used[stock] = self._used.get(stock, 0) + count
                self._turn = max(self._turn, member.next_turn)
                member.next_turn += member.demand.priority
                return instance
            waited_for.update(needs)
        return None

    def release(self, instance: InstanceT, *, unused: bool = False) -> None:
        """Give back what an instance holds, if anything; an `unused` turn is not counted."""
        demand = self._running.pop(instance, None)
        if demand is None:
            return
        for stock, count in demand.needs.items():
            self._used[stock] -= count
        if unused:
            self._members[instance].next_turn -= demand.priority

    def stocks(self) -> dict[Stock, tuple[int, int]]:
        """How much of each resource is in use, and how much there is."""
        return {stock: (self._used.get(stock, 0), self._available(stock)) for stock in self._most}

    def never(self, instance: InstanceT, held: Collection[InstanceT]) -> bool:
        """Whether an instance cannot have its turn while these hold what they have."""
        needs = self._members[instance].demand.needs
        kept = [self._running[one].needs for one in held if one in self._running]
        return any(
            count + sum(other.get(stock, 0) for other in kept) > self._available(stock)
            for stock, count in needs.items()
        )

    # --- inside -----------------------------------------------------------------------------------

    def _in_order(self) -> Iterator[tuple[InstanceT, _Member]]:
        def place(item: tuple[InstanceT, _Member]) -> tuple[int, int]:
            assert item[1].place is not None
            return item[1].place

        return iter(sorted(self._line.items(), key=place))

    def _has(self, stock: Stock, count: int) -> bool:
        return self._used.get(stock, 0) + count <= self._available(stock)

    def _available(self, stock: Stock) -> int:
        limit = self._limit(stock)
        return self._most.get(stock, 0) if limit is None else limit

    def _limit(self, stock: Stock) -> int | None:
        """What the command line says, of this very device rather than of all; None: nothing."""
        if not self._explicit:
            return None
        name, device = stock
        named = {one.device: one.count for one in self._explicit if one.name == name}
        if device == GLOBAL:
            return max(named.values(), default=0)
        return named.get(device, named.get(None, 0))


def _raise_to(most: dict[Stock, int], demand: Demand) -> None:
    for stock, count in demand.needs.items():
        most[stock] = max(most.get(stock, 0), count)
