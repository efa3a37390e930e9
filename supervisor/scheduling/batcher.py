"""Pure: given the queue and the time, which batch goes now, or when to look again.

The rules are Triton's dynamic batcher's. The queue is walked from its head; a request joins while
the total stays within max_batch_size and its tensors look like the first one's. Then, in this
order:

1. The largest preferred size is reached, or the next request does not fit: the batch cannot grow,
   it goes.
2. A smaller preferred size was passed on the way and the oldest request is still within its delay:
   that many go. Past the delay everything gathered goes, preferred or not.
3. No delay is configured: what is there goes. Otherwise look again when the oldest one's delay
   ends.

One rule is ours: an instance that is busy is sent a batch ahead of time only under rule 1, so that
it never idles between full batches, and a batch that may still grow keeps growing meanwhile.

A model without dynamic batching runs each request by itself, and at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import Struct

from ..config.schema import ModelConfig

#: Far away: what is waited for is an event, an instance that becomes free.
_NEVER = 1 << 62


class Item(Struct, frozen=True, gc=False):
    """What the batcher needs to know of a queued request.

    `signature` is equal for requests that may share a batch: the same inputs, and the same shapes
    apart from the batch dimension.
    """

    batch_size: int
    signature: object
    enqueued_ns: int


@dataclass(frozen=True, slots=True)
class Take:
    """Run the first `count` requests as one batch now."""

    count: int


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing goes now; at this time something may."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Policy:
    """The batching rules of one model. `preferred` ascends and is empty without batching."""

    max_batch_size: int = 1
    preferred: tuple[int, ...] = ()
    delay_ns: int = 0

    @classmethod
    def of(cls, config: ModelConfig) -> Policy:
        """The rules that a normalised configuration asks for."""
        batching = config.dynamic_batching
        if batching is None or config.max_batch_size < 1:
            return cls(max(1, config.max_batch_size))
        preferred = tuple(sorted(batching.preferred_batch_size)) or (config.max_batch_size,)
        delay_ns = batching.max_queue_delay_microseconds * 1000
        return cls(config.max_batch_size, preferred, delay_ns)

    @property
    def batches(self) -> bool:
        """Whether requests are run together at all."""
        return bool(self.preferred)


def decide(policy: Policy, queue: Iterable[Item], now_ns: int, *, idle: bool) -> Take | LookAgain:
    """Which batch goes now. The queue must not be empty; `idle` is False when every instance is
    busy and the batch would be sent ahead of time.
    """
    if not policy.batches:
        return Take(1)
    count = total = best_count = best_size = 0
    first: Item | None = None
    oldest_ns = _NEVER
    grows = True
    for item in queue:
        if first is None:
            first = item
        elif total + item.batch_size > policy.max_batch_size or item.signature != first.signature:
            grows = False
            break
        count += 1
        total += item.batch_size
        if item.enqueued_ns < oldest_ns:  # with priorities the oldest need not be the first
            oldest_ns = item.enqueued_ns
        if total in policy.preferred:
            best_count, best_size = count, total
        if total >= policy.preferred[-1]:
            grows = False
            break
    assert first is not None, "an empty queue has no batch"
    overdue = policy.delay_ns > 0 and now_ns - oldest_ns >= policy.delay_ns
    if not grows:
        past_preferred = best_size and best_size < total and not overdue
        return Take(best_count if past_preferred else count)
    if not idle:
        return LookAgain(_NEVER)
    if best_size and not overdue:
        return Take(best_count)
    if overdue or policy.delay_ns == 0:
        return Take(count)
    return LookAgain(oldest_ns + policy.delay_ns)
