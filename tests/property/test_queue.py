"""Whatever is done to the queue: nothing is lost, nothing doubled, and the order is the rules'."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.errors import UnavailableError
from tritonpy.supervisor.scheduling.queue import LevelPolicy, QueueRules, RequestQueue

POLICIES = st.builds(
    LevelPolicy,
    most=st.integers(0, 4),
    timeout_ns=st.integers(0, 20),
    allow_override=st.booleans(),
    delays=st.booleans(),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 4), st.integers(0, 30)),
        st.tuples(st.just("pop"), st.just(0), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 15), st.just(0)),
    ),
    max_size=60,
)


class SlowQueue:
    """The same rules without any cleverness: a list of (item, level, end, late)."""

    def __init__(self, rules: QueueRules) -> None:
        self.rules = rules
        self.items: list[tuple[int, int, int, bool]] = []

    def order(self) -> list[int]:
        waits = enumerate(self.items)
        return [entry[0] for _, entry in sorted(waits, key=lambda w: (w[1][1], w[1][3], w[0]))]

    def push(self, item: int, priority: int, timeout: int, now: int) -> bool:
        level = priority if 1 <= priority <= len(self.rules.levels) else self.rules.default_level
        policy = self.rules.levels[level - 1]
        if policy.most and sum(entry[1] == level for entry in self.items) >= policy.most:
            return False
        patience = policy.timeout_ns
        if policy.allow_override and 0 < timeout < patience:
            patience = timeout
        self.items.append((item, level, now + patience if patience else 0, False))
        return True

    def take(self, item: int) -> bool:
        left = [entry for entry in self.items if entry[0] != item]
        found = len(left) < len(self.items)
        self.items = left
        return found

    def expire(self, now: int) -> list[int]:
        due = [entry for entry in self.items if entry[2] and entry[2] <= now]
        given_up: list[int] = []
        for entry in sorted(due, key=lambda entry: (entry[2], entry[0])):
            self.items.remove(entry)
            if self.rules.levels[entry[1] - 1].delays:
                self.items.append((entry[0], entry[1], 0, True))
            else:
                given_up.append(entry[0])
        return given_up


@given(st.lists(POLICIES, min_size=1, max_size=3), st.integers(1, 3), STEPS)
def test_the_queue_does_what_the_slow_one_does(
    policies: list[LevelPolicy], default: int, steps: list[tuple[str, int, int]]
) -> None:
    rules = QueueRules(tuple(policies), min(default, len(policies)))
    queue: RequestQueue[int] = RequestQueue(rules)
    slow = SlowQueue(rules)
    now = 0
    for number, (step, first, second) in enumerate(steps):
        if step == "push":
            try:
                queue.push(number, first, second, now)
                taken = True
            except UnavailableError:
                taken = False
            assert taken == slow.push(number, first, second, now)
        elif step == "pop" and len(queue):
            item = queue.pop()
            assert item == slow.order()[0]
            slow.take(item)
        elif step == "remove":
            assert queue.remove(first) == slow.take(first)
        elif step == "wait":
            now += first
            assert queue.expire(now) == slow.expire(now)
        assert list(queue) == slow.order()
        assert len(queue) == len(slow.items)
        ends = [entry[2] for entry in slow.items if entry[2]]
        assert queue.next_end_ns() == (min(ends) if ends else None)
