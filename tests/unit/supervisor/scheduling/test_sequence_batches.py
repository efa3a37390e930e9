"""Which slots go together: `direct` by rows, `oldest` by the dynamic batcher's rules."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.config.defaults import normalise
from tritonpy.supervisor.config.parse import from_text
from tritonpy.supervisor.scheduling.batcher import LookAgain, Policy
from tritonpy.supervisor.scheduling.sequence_batches import Candidate, Chosen, Strategy, choose

US = 1000


def strategy(text: str, max_batch_size: int = 4) -> Strategy:
    config = from_text(f'name: "m" max_batch_size: {max_batch_size} {text}', "config.pbtxt")
    return Strategy.of(normalise(config, []))


def at(*ready: int | None, signature: str = "s") -> list[Candidate]:
    """Candidates by slot, with the times since when they are ready."""
    return [Candidate(slot, signature, ns) for slot, ns in enumerate(ready) if ns is not None]


@pytest.mark.parametrize(
    ("text", "max_batch_size", "expected"),
    [
        ("sequence_batching {}", 4, Strategy(4)),
        ("sequence_batching {}", 0, Strategy(1)),
        (
            "sequence_batching { direct { max_queue_delay_microseconds: 5 "
            "minimum_slot_utilization: 0.5 } }",
            4,
            Strategy(4, None, 5 * US, 0.5),
        ),
        (
            "sequence_batching { oldest { max_candidate_sequences: 9 "
            "preferred_batch_size: [ 4, 2 ] max_queue_delay_microseconds: 7 } }",
            4,
            Strategy(9, Policy(4, (2, 4), 7 * US)),
        ),
        ("sequence_batching { oldest {} }", 4, Strategy(4, Policy(4, (4,)))),
        (
            "sequence_batching { oldest { max_candidate_sequences: 3 } }",
            0,
            Strategy(3, Policy(1, ())),
        ),
    ],
)
def test_the_configuration_says_how(text: str, max_batch_size: int, expected: Strategy) -> None:
    assert strategy(text, max_batch_size) == expected


def test_direct_takes_at_once_what_the_slots_have() -> None:
    plain = strategy("sequence_batching {}")

    assert choose(plain, at(None, 5, None, 3), 5) == Chosen((1, 3))


def test_direct_waits_for_enough_slots_or_for_the_delay() -> None:
    patient = strategy(
        "sequence_batching { direct { max_queue_delay_microseconds: 10 "
        "minimum_slot_utilization: 0.5 } }"
    )

    assert choose(patient, at(None, 100), 100) == LookAgain(100 + 10 * US)
    assert choose(patient, at(None, 100), 100 + 10 * US) == Chosen((1,))
    assert choose(patient, at(50, None, 100), 100) == Chosen((0, 2))


def test_direct_without_a_delay_never_waits() -> None:
    hurried = strategy("sequence_batching { direct { minimum_slot_utilization: 1 } }")

    assert choose(hurried, at(100), 100) == Chosen((0,))


def test_direct_leaves_out_what_does_not_fit_with_the_oldest() -> None:
    plain = strategy("sequence_batching {}")
    candidates = [Candidate(0, "wide", 5), Candidate(1, "narrow", 3), Candidate(2, "narrow", 9)]

    assert choose(plain, candidates, 10) == Chosen((1, 2))


def test_oldest_takes_the_oldest_first_and_no_more_than_fit() -> None:
    small = strategy("sequence_batching { oldest { max_candidate_sequences: 4 } }", 2)

    assert choose(small, at(30, 10, 20, 40), 50) == Chosen((1, 2))


def test_oldest_waits_for_a_preferred_size_until_the_delay_ends() -> None:
    patient = strategy(
        "sequence_batching { oldest { max_candidate_sequences: 4 preferred_batch_size: [ 3 ] "
        "max_queue_delay_microseconds: 10 } }"
    )

    assert choose(patient, at(20, 10), 30) == LookAgain(10 + 10 * US)
    assert choose(patient, at(20, 10), 10 + 10 * US) == Chosen((1, 0))
    assert choose(patient, at(20, 10, 5), 30) == Chosen((2, 1, 0))


def test_oldest_without_batching_runs_each_by_itself() -> None:
    alone = strategy("sequence_batching { oldest { max_candidate_sequences: 4 } }", 0)

    assert choose(alone, at(20, 10), 30) == Chosen((1,))
