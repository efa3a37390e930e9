"""Whoever comes and goes: no resource is given twice, and nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.scheduling.rate_limiter import GLOBAL, Demand, Explicit, RateLimiter

NAMES = "RST"
DEMANDS = st.builds(
    lambda device, needs, global_, priority: Demand(
        {
            **{(name, device): count for name, count in needs.items()},
            **({("G", GLOBAL): global_} if global_ else {}),
        },
        priority,
    ),
    st.integers(0, 1),
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4), max_size=2),
    st.integers(0, 2),
    st.integers(1, 5),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "wait", "wait", "go", "go", "release", "unused", "leave"]),
        st.integers(0, 7),
        DEMANDS,
    ),
    max_size=80,
)
GIVEN = (Explicit("R", 4), Explicit("S", 5), Explicit("T", 6), Explicit("G", 2))
EXPLICIT: st.SearchStrategy[tuple[Explicit, ...]] = st.sampled_from([(), GIVEN])


@given(EXPLICIT, STEPS)
def test_no_more_is_given_than_there_is(
    explicit: tuple[Explicit, ...], steps: list[tuple[str, int, Demand]]
) -> None:
    limiter = RateLimiter[int](explicit)
    members: dict[int, Demand] = {}
    running: dict[int, Demand] = {}

    for step, instance, demand in steps:
        match step:
            case "join" if instance not in members:
                limiter.join(instance, demand)
                members[instance] = demand
            case "wait" if instance in members:
                limiter.wait(instance)
            case "go":
                going = limiter.next()
                if going is not None:
                    assert going in members
                    assert going not in running
                    running[going] = members[going]
                    for stock in running[going].needs:
                        used = sum(one.needs.get(stock, 0) for one in running.values())
                        most = max(one.needs.get(stock, 0) for one in members.values())
                        given = {one.name: one.count for one in explicit}.get(stock[0], most)
                        assert used <= given
                        assert limiter.stocks()[stock] == (used, given)
            case "release" | "unused":
                limiter.release(instance, unused=step == "unused")
                running.pop(instance, None)
            case "leave":
                limiter.leave(instance)
                members.pop(instance, None)
                running.pop(instance, None)
            case _:
                pass

    for instance in list(members):
        limiter.leave(instance)
    assert limiter.stocks() == {}
    assert repr(limiter) == "<RateLimiter: 0 instances, 0 run, 0 wait>"


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=2, max_size=6),
    st.lists(st.integers(0, 5), min_size=60, max_size=60),
)
def test_nobody_waits_for_more_turns_than_the_weights_say(
    members: list[tuple[int, int]], ends: list[int]
) -> None:
    """All of them want the same resource all the time, and end in an order that is not theirs."""
    limiter = RateLimiter[int]()
    for instance, (priority, count) in enumerate(members):
        limiter.join(instance, Demand({("R", 0): count}, priority))
    waited = dict.fromkeys(range(len(members)), 0)
    most = (len(members) - 1) * (max(priority for priority, _ in members) + 1)
    running: list[int] = []

    for end in ends:
        for instance in waited:
            limiter.wait(instance)
        while (going := limiter.next()) is not None:
            running.append(going)
            for other in waited:
                waited[other] += other not in running
            waited[going] = 0
            assert max(waited.values()) <= most
        limiter.release(running.pop(end % len(running)))
