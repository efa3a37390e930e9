"""The queue of one model: levels, limits and patience. Times are plain numbers."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import UnavailableError
from tritonpy.supervisor.config.schema import ModelConfig, ModelDynamicBatching, ModelQueuePolicy
from tritonpy.supervisor.scheduling.queue import LevelPolicy, QueueRules, RequestQueue

PLAIN = LevelPolicy()
REJECTS = LevelPolicy(timeout_ns=100)
DELAYS = LevelPolicy(timeout_ns=100, delays=True)
LENIENT = LevelPolicy(timeout_ns=100, allow_override=True)


def queue(*levels: LevelPolicy, default: int = 1) -> RequestQueue[str]:
    return RequestQueue(QueueRules(levels or (PLAIN,), default))


def drained(waiting: RequestQueue[str]) -> list[str]:
    listed = list(waiting)
    taken = [waiting.pop() for _ in range(len(waiting))]
    assert taken == listed, "the queue leaves in another order than it is looked at"
    return taken


def test_without_levels_the_first_in_is_the_first_out_whatever_its_priority() -> None:
    waiting = queue()
    for number, priority in enumerate((0, 5, 1)):
        waiting.push(str(number), priority, 0, 0)

    assert drained(waiting) == ["0", "1", "2"]


def test_level_one_goes_first_and_other_priorities_go_to_the_default_level() -> None:
    waiting = queue(PLAIN, PLAIN, PLAIN, default=2)
    for item, priority in (("c", 3), ("b", 2), ("none", 0), ("beyond", 4), ("a", 1)):
        waiting.push(item, priority, 0, 0)

    assert drained(waiting) == ["a", "b", "none", "beyond", "c"]


def test_a_full_level_takes_no_more_and_the_others_do() -> None:
    waiting = queue(LevelPolicy(most=1), PLAIN)
    waiting.push("first", 1, 0, 0)

    with pytest.raises(UnavailableError, match=r"^Exceeds maximum queue size$"):
        waiting.push("second", 1, 0, 0)
    waiting.push("third", 2, 0, 0)

    assert len(waiting) == 2
    assert waiting.pop() == "first"
    waiting.push("fourth", 1, 0, 0)
    assert drained(waiting) == ["fourth", "third"]


def test_what_has_waited_too_long_is_given_up() -> None:
    waiting = queue(REJECTS)
    waiting.push("old", 0, 0, 0)
    waiting.push("young", 0, 0, 1)

    assert waiting.next_end_ns() == 100
    assert waiting.expire(99) == []
    assert waiting.expire(100) == ["old"]
    assert waiting.next_end_ns() == 101
    assert drained(waiting) == ["young"]
    assert waiting.next_end_ns() is None


def test_what_is_late_waits_on_behind_those_of_its_level_that_are_in_time() -> None:
    waiting = queue(DELAYS, PLAIN)
    waiting.push("late", 1, 0, 0)
    waiting.push("other", 2, 0, 0)
    waiting.push("in time", 1, 0, 50)

    assert waiting.expire(120) == []

    assert drained(waiting) == ["in time", "late", "other"]


def test_late_requests_count_for_the_size_of_their_level() -> None:
    waiting = queue(LevelPolicy(most=1, timeout_ns=100, delays=True))
    waiting.push("late", 0, 0, 0)
    waiting.expire(100)

    with pytest.raises(UnavailableError):
        waiting.push("next", 0, 0, 100)


@pytest.mark.parametrize(
    ("policy", "brought", "end"),
    [
        (LENIENT, 40, 40),  # shorter than the policy's own
        (LENIENT, 400, 100),  # longer: does not count
        (LENIENT, 0, 100),
        (REJECTS, 40, 100),  # not allowed
        (LevelPolicy(allow_override=True), 40, None),  # the policy itself has none
    ],
)
def test_a_requests_own_timeout_counts_only_where_it_shortens_an_allowed_one(
    policy: LevelPolicy, brought: int, end: int | None
) -> None:
    waiting = queue(policy)
    waiting.push("a", 0, brought, 0)

    assert waiting.next_end_ns() == end


def test_what_has_left_the_queue_does_not_expire() -> None:
    waiting = queue(REJECTS)
    for item in ("taken", "removed", "left"):
        waiting.push(item, 0, 0, 0)
    assert waiting.pop() == "taken"
    assert waiting.remove("removed")
    assert not waiting.remove("removed")

    assert waiting.expire(1000) == ["left"]
    assert len(waiting) == 0


def test_what_is_put_back_goes_before_all_levels_and_never_expires() -> None:
    waiting = queue(REJECTS, PLAIN)
    waiting.push("a", 1, 0, 0)
    waiting.push("again", 2, 0, 0)
    waiting.remove("again")
    waiting.push_first("again")

    assert waiting.expire(1000) == ["a"]
    assert drained(waiting) == ["again"]


def test_late_requests_can_be_taken_back() -> None:
    waiting = queue(DELAYS)
    waiting.push("late", 0, 0, 0)
    waiting.expire(100)

    assert waiting.remove("late")
    assert len(waiting) == 0
    with pytest.raises(IndexError):
        waiting.pop()


def test_the_rules_are_those_of_the_configuration() -> None:
    config = ModelConfig(
        max_batch_size=4,
        dynamic_batching=ModelDynamicBatching(
            priority_levels=2,
            default_priority_level=2,
            default_queue_policy=ModelQueuePolicy(max_queue_size=7),
            priority_queue_policy={
                1: ModelQueuePolicy(
                    timeout_action="DELAY",
                    default_timeout_microseconds=3,
                    allow_timeout_override=True,
                )
            },
        ),
    )

    rules = QueueRules.of(config)

    assert rules.levels == (LevelPolicy(0, 3000, True, True), LevelPolicy(most=7))
    assert rules.default_level == 2
    assert not rules.is_plain
    assert QueueRules.of(ModelConfig()).is_plain
