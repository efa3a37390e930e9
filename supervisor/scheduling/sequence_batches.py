"""Pure: which requests of an instance's slots go as one batch now, or when to look again.

Two strategies, Triton's. `direct` gives each slot its row of the batch: what the slots have goes
together, and slots between them that have nothing are filled with null requests. `oldest` hands
what the slots have to the dynamic batcher's rules, the oldest first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..config.schema import ModelConfig, StrategyDirect
from .batcher import Item, LookAgain, Policy, Take, decide


class Candidate(NamedTuple):
    """What is known of the request at the head of a slot.

    `signature` is equal for requests that may share a batch.
    """

    slot: int
    signature: Hashable
    ready_ns: int


class Chosen(NamedTuple):
    """Run the requests of these slots together, in this order."""

    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a model's sequences are batched.

    `slots` is how many sequences an instance holds. `oldest` batches by `policy`, None is `direct`,
    for which the two others hold.
    """

    slots: int
    oldest: Policy | None = None
    delay_ns: int = 0
    least_share: float = 0.0

    @classmethod
    def of(cls, config: ModelConfig) -> Strategy:
        """The strategy that a normalised configuration asks for: `direct` if none."""
        batching = config.sequence_batching
        assert batching is not None
        rows = max(1, config.max_batch_size)
        oldest = batching.oldest
        if oldest is None:
            direct = batching.direct or StrategyDirect()
            delay_ns = direct.max_queue_delay_microseconds * 1000
            return cls(rows, None, delay_ns, direct.minimum_slot_utilization)
        preferred = tuple(sorted(oldest.preferred_batch_size)) or (rows,)
        if config.max_batch_size < 1:
            preferred = ()
        policy = Policy(rows, preferred, oldest.max_queue_delay_microseconds * 1000)
        return cls(oldest.max_candidate_sequences or rows, policy)


def choose(strategy: Strategy, candidates: Sequence[Candidate], now_ns: int) -> Chosen | LookAgain:
    """Which slots' requests an idle instance runs now. There must be a candidate."""
    if strategy.oldest is None:
        return _direct(strategy, candidates, now_ns)
    oldest = sorted(candidates, key=lambda each: each.ready_ns)
    items = [Item(1, each.signature, each.ready_ns) for each in oldest]
    decision = decide(strategy.oldest, items, now_ns, idle=True)
    if isinstance(decision, Take):
        return Chosen(tuple(each.slot for each in oldest[: decision.count]))
    return decision


def _direct(strategy: Strategy, candidates: Sequence[Candidate], now_ns: int) -> Chosen | LookAgain:
    """All that fit with the oldest, once enough slots have something or it waited long enough."""
    oldest = min(candidates, key=lambda each: each.ready_ns)
    due_ns = oldest.ready_ns + strategy.delay_ns
    enough = len(candidates) >= strategy.least_share * strategy.slots
    if strategy.delay_ns and not enough and now_ns < due_ns:
        return LookAgain(due_ns)
    fitting = [each.slot for each in candidates if each.signature == oldest.signature]
    return Chosen(tuple(fitting))
