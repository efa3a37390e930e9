"""The rules of the dynamic batcher, on times that the test makes up."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.config.schema import ModelConfig, ModelDynamicBatching
from tritonpy.supervisor.scheduling.batcher import Item, LookAgain, Policy, Take, decide

MS = 1_000_000
NOW = 1_000 * MS


def queue(*sizes: int, waited_ms: int = 0, signatures: str = "") -> list[Item]:
    """Requests of these batch sizes, the oldest of which has waited so long."""
    letters = signatures or "a" * len(sizes)
    return [
        Item(size, letter, NOW - max(waited_ms - index, 0) * MS)
        for index, (size, letter) in enumerate(zip(sizes, letters, strict=True))
    ]


FULL = Policy(8, (8,))
PREFERS_4 = Policy(8, (4,))
PREFERS_4_AND_8 = Policy(8, (4, 8))
DELAYED = Policy(8, (8,), delay_ns=5 * MS)
DELAYED_4 = Policy(8, (4,), delay_ns=5 * MS)
DELAYED_2_AND_6 = Policy(8, (2, 6), delay_ns=5 * MS)


@pytest.mark.parametrize(
    ("policy", "items", "taken"),
    [
        pytest.param(Policy(), queue(1, 1, 1), 1, id="without batching each goes by itself"),
        pytest.param(Policy(8), queue(1, 1, 1), 1, id="a batch size alone does not batch"),
        pytest.param(FULL, queue(1), 1, id="without a delay a single request goes at once"),
        pytest.param(FULL, queue(1, 1, 1), 3, id="without a delay what is there goes"),
        pytest.param(FULL, queue(*[1] * 12), 8, id="no batch exceeds the largest preferred size"),
        pytest.param(FULL, queue(3, 3, 3), 2, id="a request that does not fit waits"),
        pytest.param(FULL, queue(8, 1), 1, id="a full request goes alone"),
        pytest.param(FULL, queue(5, 4, 3), 1, id="nobody overtakes the one that does not fit"),
        pytest.param(FULL, queue(1, 1, 1, signatures="aab"), 2, id="other shapes end the batch"),
        pytest.param(FULL, queue(1, 1, 1, signatures="aba"), 1, id="and are not skipped"),
        pytest.param(PREFERS_4, queue(*[1] * 6), 4, id="the preferred size goes, though more fit"),
        pytest.param(PREFERS_4, queue(1, 1, 1), 3, id="less than preferred goes without a delay"),
        pytest.param(PREFERS_4, queue(3, 3), 2, id="a preferred size that is jumped over"),
        pytest.param(PREFERS_4_AND_8, queue(*[1] * 6), 4, id="the largest one that was met"),
        pytest.param(PREFERS_4_AND_8, queue(*[1] * 9), 8, id="the largest of all"),
        pytest.param(PREFERS_4_AND_8, queue(4, 3, 3), 1, id="back to the one that was met"),
        pytest.param(DELAYED, queue(*[1] * 8), 8, id="a full batch does not wait"),
        pytest.param(DELAYED, queue(1, 1, waited_ms=5), 2, id="what is overdue goes as it is"),
        pytest.param(DELAYED, queue(7, 2), 1, id="a batch that cannot grow does not wait"),
        pytest.param(DELAYED, queue(1, 1, signatures="ab"), 1, id="nor one before another shape"),
        pytest.param(DELAYED_4, queue(*[1] * 4), 4, id="a preferred size does not wait"),
        pytest.param(DELAYED_4, queue(3, 3, waited_ms=2), 2, id="past it, it cannot grow"),
        pytest.param(DELAYED_2_AND_6, queue(1, 1, 1), 2, id="within the delay, preferred only"),
        pytest.param(DELAYED_2_AND_6, queue(1, 1, 1, waited_ms=9), 3, id="overdue, all of it"),
        pytest.param(
            DELAYED_2_AND_6, queue(2, 1, 7, waited_ms=9), 2, id="overdue, as far as it fits"
        ),
    ],
)
def test_what_an_idle_instance_is_given(policy: Policy, items: list[Item], taken: int) -> None:
    assert decide(policy, items, NOW, idle=True) == Take(taken)


@pytest.mark.parametrize("waited_ms", [0, 1, 4])
def test_a_batch_that_may_grow_waits_for_the_end_of_the_oldest_ones_delay(waited_ms: int) -> None:
    items = queue(1, 1, waited_ms=waited_ms)

    again = decide(DELAYED, items, NOW, idle=True)

    assert again == LookAgain(NOW + (5 - waited_ms) * MS)
    assert isinstance(again, LookAgain)
    assert decide(DELAYED, items, again.at_ns, idle=True) == Take(2)


@pytest.mark.parametrize(
    ("policy", "items", "taken"),
    [
        pytest.param(Policy(), queue(1, 1), 1, id="without batching there is nothing to wait for"),
        pytest.param(FULL, queue(*[1] * 8), 8, id="a full batch"),
        pytest.param(FULL, queue(5, 5), 1, id="one that cannot grow"),
        pytest.param(FULL, queue(1, 1, signatures="ab"), 1, id="one before another shape"),
        pytest.param(PREFERS_4, queue(*[1] * 4), 4, id="the largest preferred size"),
    ],
)
def test_a_busy_instance_is_sent_ahead_what_cannot_grow(
    policy: Policy, items: list[Item], taken: int
) -> None:
    assert decide(policy, items, NOW, idle=False) == Take(taken)


@pytest.mark.parametrize(
    "items", [queue(1), queue(1, 1), queue(*[1] * 7), queue(1, waited_ms=100)], ids=len
)
@pytest.mark.parametrize("policy", [FULL, DELAYED, PREFERS_4_AND_8], ids=repr)
def test_what_may_grow_keeps_growing_while_every_instance_is_busy(
    policy: Policy, items: list[Item]
) -> None:
    decision = decide(policy, items, NOW, idle=False)

    assert isinstance(decision, LookAgain)
    assert decision.at_ns > NOW + 10**15  # nothing but a free instance is worth looking for


def test_an_empty_queue_has_no_batch() -> None:
    with pytest.raises(AssertionError, match="empty queue"):
        decide(FULL, [], NOW, idle=True)


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        (ModelConfig(), Policy(1)),
        (ModelConfig(max_batch_size=8), Policy(8)),
        (ModelConfig(max_batch_size=0, dynamic_batching=ModelDynamicBatching()), Policy(1)),
        (ModelConfig(max_batch_size=8, dynamic_batching=ModelDynamicBatching()), Policy(8, (8,))),
        (
            ModelConfig(
                max_batch_size=8,
                dynamic_batching=ModelDynamicBatching(
                    preferred_batch_size=[6, 2], max_queue_delay_microseconds=50
                ),
            ),
            Policy(8, (2, 6), 50_000),
        ),
    ],
    ids=["nothing", "batch size only", "batching without batches", "defaults", "all"],
)
def test_the_rules_of_a_configuration(config: ModelConfig, policy: Policy) -> None:
    assert Policy.of(config) == policy
    assert policy.batches is bool(policy.preferred)
