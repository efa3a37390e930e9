"""Who may run next, by resources and turns."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config.schema import ModelRateLimiter, Resource
from tritonpy.supervisor.scheduling.rate_limiter import GLOBAL, Demand, Explicit, RateLimiter


def demand(priority: int = 1, device: int = 0, **needs: int) -> Demand:
    return Demand({(name, device): count for name, count in needs.items()}, priority)


def limiter(*explicit: Explicit, **demands: Demand) -> RateLimiter[str]:
    """A limiter that knows these instances, all of which wait."""
    made = RateLimiter[str](explicit)
    for instance, its in demands.items():
        made.check([its])
        made.join(instance, its)
        made.wait(instance)
    return made


def running(made: RateLimiter[str]) -> list[str]:
    """Let go everybody who can."""
    gone: list[str] = []
    while (instance := made.next()) is not None:
        gone.append(instance)
    return gone


# --- resources ------------------------------------------------------------------------------------


def test_one_runs_when_two_need_all_there_is() -> None:
    made = limiter(a=demand(R=4), b=demand(R=4))
    assert running(made) == ["a"]
    assert made.stocks() == {("R", 0): (4, 4)}
    made.release("a")
    assert running(made) == ["b"]


def test_there_is_what_the_most_demanding_instance_needs() -> None:
    made = limiter(a=demand(R=2), b=demand(R=4), c=demand(R=2), d=demand(R=2))
    made.withdraw("b")
    assert running(made) == ["a", "c"]


def test_who_needs_nothing_runs_at_once() -> None:
    made = limiter(a=demand(R=1), b=demand(R=1), c=demand())
    assert running(made) == ["a", "c"]


def test_every_device_has_a_stock_of_its_own_and_the_server_one_of_global_resources() -> None:
    made = limiter(
        a=demand(R=1),
        b=demand(device=1, R=1),
        c=demand(device=GLOBAL, G=1),
        d=demand(device=GLOBAL, G=1),
    )
    assert running(made) == ["a", "b", "c"]


def test_what_is_given_explicitly_counts_and_for_one_device_more_than_for_all() -> None:
    explicit = (Explicit("R", 2), Explicit("R", 1, 1), Explicit("G", 2, 5))
    made = limiter(*explicit, a=demand(R=1), b=demand(R=1), c=demand(R=1))
    assert running(made) == ["a", "b"]
    made = limiter(*explicit, a=demand(device=1, R=1), b=demand(device=1, R=1))
    assert running(made) == ["a"]
    whole = Demand({("G", GLOBAL): 2})
    assert running(limiter(*explicit, a=whole, b=whole)) == ["a"]


def test_a_demand_that_could_never_be_met_is_refused() -> None:
    text = (
        'Resource count for "R" is limited to 2 which will prevent scheduling of one or more model '
        "instances, the minimum required count is 4"
    )
    with pytest.raises(InvalidArgumentError) as caught:
        limiter(Explicit("R", 2), a=demand(R=4))
    assert caught.value.message == text


@pytest.mark.parametrize("explicit", [Explicit("r", 9), Explicit("R", 9, 1)])
def test_where_resources_are_given_there_is_nothing_of_any_other(explicit: Explicit) -> None:
    with pytest.raises(InvalidArgumentError, match='"R" is limited to 0'):
        limiter(explicit, a=demand(R=1))


def test_a_resource_is_global_for_all_or_for_nobody() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        limiter(a=demand(R=1), b=demand(device=GLOBAL, R=1))
    assert caught.value.message == (
        'Resource "R" is present as both global and device-specific resource in the model '
        "configuration."
    )


def test_who_leaves_gives_back_what_it_has_and_its_demand() -> None:
    made = limiter(a=demand(R=4), b=demand(R=2), c=demand(R=2))
    assert running(made) == ["a"]
    made.leave("a")
    assert running(made) == ["b"]
    assert made.stocks() == {("R", 0): (2, 2)}
    made.leave("a")


def test_who_leaves_waits_no_longer() -> None:
    made = limiter(a=demand(R=1), b=demand(R=1))
    made.leave("b")
    assert running(made) == ["a"]
    made.release("a")
    assert running(made) == []


# --- turns ----------------------------------------------------------------------------------------


def turns(made: RateLimiter[str], count: int, *instances: str) -> str:
    """Who runs, one after the other, when all of them always have something to run."""
    ran: list[str] = []
    for _ in range(count):
        for instance in instances:
            made.wait(instance)
        going = made.next()
        assert going is not None
        ran.append(going)
        made.release(going)
    return "".join(ran)


def test_equals_run_in_turn() -> None:
    assert turns(limiter(a=demand(R=1), b=demand(R=1)), 6, "a", "b") == "ababab"


def test_the_lowest_priority_times_executions_goes_first() -> None:
    made = limiter(a=demand(1, R=1), b=demand(3, R=1))
    assert turns(made, 8, "a", "b") == "abaabaaa"


def test_who_had_nothing_to_run_does_not_make_up_for_it() -> None:
    made = limiter(a=demand(R=1), b=demand(R=1))
    made.withdraw("b")
    turns(made, 100, "a")
    assert sorted(turns(made, 6, "a", "b")) == list("aaabbb")


def test_who_comes_late_does_not_run_alone() -> None:
    made = limiter(a=demand(R=1))
    turns(made, 100, "a")
    made.join("b", demand(R=1))
    assert sorted(turns(made, 6, "a", "b")) == list("aaabbb")


def test_a_turn_that_was_not_used_is_not_counted() -> None:
    made = limiter(a=demand(R=1), b=demand(R=1))
    assert made.next() == "a"
    made.release("a", unused=True)
    made.wait("a")
    assert turns(made, 3, "a", "b") == "bab"


def test_a_large_demand_is_not_starved_by_small_ones() -> None:
    made = limiter(a=demand(R=1), big=demand(R=2), b=demand(R=1))
    assert running(made) == ["a"]
    made.wait("b")
    assert running(made) == [], "one R is free, but the big one waits for it"
    made.release("a")
    assert running(made) == ["big"]


def test_who_needs_nothing_that_is_waited_for_passes() -> None:
    made = limiter(a=demand(R=1), big=demand(R=2), other=demand(S=1))
    assert running(made) == ["a", "other"]


def test_who_runs_or_waits_already_cannot_wait_twice() -> None:
    made = limiter(a=demand(), b=demand())
    made.wait("a")
    assert running(made) == ["a", "b"]
    made.wait("a")
    assert running(made) == []


def test_a_demand_is_read_from_the_configuration() -> None:
    resources = [
        Resource(name="R", count=2),
        Resource(name="R", count=1),
        Resource(name="G", global_=True, count=3),
    ]
    config = ModelRateLimiter(resources=resources)
    assert Demand.of(config, 5) == Demand({("R", 5): 2, ("G", GLOBAL): 3}, 1)
    assert Demand.of(ModelRateLimiter(priority=7), 5) == Demand({}, 7)
    assert Demand.of(None, 5) == Demand()


def test_it_tells_what_it_holds() -> None:
    made = limiter(a=demand(R=1), b=demand(R=1))
    made.next()
    assert repr(made) == "<RateLimiter: 2 instances, 1 run, 1 wait>"


# --- for ever -------------------------------------------------------------------------------------


def test_what_others_never_give_back_may_be_missing_for_ever() -> None:
    made = limiter(a=demand(R=2), b=demand(R=3), c=demand(R=1), d=demand(S=1))
    made.withdraw("b")
    assert running(made) == ["a", "c", "d"]

    assert made.never("b", ["a"])
    assert made.never("b", ["c"])
    assert not made.never("b", [])
    assert not made.never("b", ["d"]), "another resource"
    assert not made.never("c", ["a"])
    assert not made.never("b", ["b"]), "it holds nothing"
