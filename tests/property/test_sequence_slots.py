"""Whatever happens to sequences and instances, in whatever order: the slots stay in order."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tritonpy.ipc.errors import InvalidArgumentError, UnavailableError
from tritonpy.supervisor.scheduling.sequence_slots import SequenceSlots

IDS = st.one_of(st.integers(1, 5), st.sampled_from("ab"))
IDLE = 50


class Sequences(RuleBasedStateMachine):
    """Random requests, executions, losses and time, beside plain books of what must hold."""

    @initialize()
    def begin(self) -> None:
        self.slots: SequenceSlots[int] = SequenceSlots("m", IDLE)
        self.now = 0
        self.items = 0
        self.instances: dict[int, int] = {}
        self.next_instance = 0
        #: Of each item its sequence, and of each id the sequence that it belongs to now.
        self.sequence: dict[int, int] = {}
        self.current: dict[int | str, int] = {}
        self.waiting: set[int] = set()
        self.running: dict[int, tuple[int, int]] = {}

    @rule(count=st.integers(1, 3))
    def instance_comes(self, count: int) -> None:
        if len(self.instances) < 3:
            self.instances[self.next_instance] = count
            self.slots.add_instance(self.next_instance, count, self.now)
            self.next_instance += 1

    @rule(data=st.data())
    def instance_goes(self, data: st.DataObject) -> None:
        if not self.instances:
            return
        instance = data.draw(st.sampled_from(sorted(self.instances)))
        del self.instances[instance]
        self._end(self.slots.lose_instance(instance, "gone", self.now))
        self.running = {i: place for i, place in self.running.items() if place[0] != instance}

    @rule(id=IDS, start=st.booleans(), end=st.booleans(), timeout=st.sampled_from([0, 0, 20]))
    def request(self, id: int | str, start: bool, end: bool, timeout: int) -> None:
        self.items += 1
        active = self.slots.is_active(id)
        try:
            conflict = self.slots.enqueue(
                self.items, id, self.now, start=start, end=end, timeout_ns=timeout
            )
        except (InvalidArgumentError, UnavailableError):
            assert not active
            assert not start
            return
        assert conflict == (active and start)
        assert self.slots.is_active(id) is not end
        if not active:
            self.current[id] = self.items
        self.sequence[self.items] = self.current[id]
        self.waiting.add(self.items)

    @rule(data=st.data())
    def runs(self, data: st.DataObject) -> None:
        places = [(i, head) for i in self.instances for head in self.slots.heads(i)]
        if not places:
            return
        instance, head = data.draw(st.sampled_from(places))
        entry = self.slots.take(instance, head.slot)
        assert entry.item == head.item
        sequence = self.sequence[head.item]
        assert head.item == min(i for i in self.waiting if self.sequence[i] == sequence)
        assert all(self.sequence[i] != sequence for i in self.running)
        self.waiting.remove(entry.item)
        self.running[entry.item] = instance, head.slot

    @rule(data=st.data(), again=st.booleans(), ended=st.booleans())
    def executed(self, data: st.DataObject, again: bool, ended: bool) -> None:
        if not self.running:
            return
        item = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[item]
        if again:
            assert self.slots.rescheduled(item, self.now)
            self.waiting.add(item)
        else:
            self.slots.executed(item, self.now, ended=ended)

    @rule(data=st.data())
    def cancelled(self, data: st.DataObject) -> None:
        if self.waiting or self.running:
            item = data.draw(st.sampled_from(sorted({*self.waiting, *self.running})))
            self._end(self.slots.cancel(item, self.now))
            assert item not in self.waiting

    @rule(passed=st.integers(1, 40))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        self._end(self.slots.expire(self.now))
        end = self.slots.next_end_ns()
        assert end is None or end > self.now

    @rule()
    def all_end(self) -> None:
        self._end(self.slots.fail_all(self.now))
        assert not self.waiting

    def _end(self, items: list[int]) -> None:
        assert len(set(items)) == len(items)
        assert self.waiting.issuperset(items), "only what waits can be taken back"
        self.waiting.difference_update(items)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert self.slots.queued == len(self.waiting)

    @invariant()
    def every_slot_runs_one_request_at_a_time(self) -> None:
        assert len(set(self.running.values())) == len(self.running)
        for instance, count in self.instances.items():
            heads = self.slots.heads(instance)
            busy = {slot for at, slot in self.running.values() if at == instance}
            assert all(0 <= head.slot < count for head in heads)
            assert busy.isdisjoint(head.slot for head in heads)

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        capacity = sum(self.instances.values())
        held = self.slots.held
        assert held <= capacity
        if self.slots.open > held:
            assert held == capacity


TestSequences = Sequences.TestCase
