"""Quantiles of a stream of numbers within a stated error, in little memory, over the last minute.

The samples that are kept are those that the targets need: many around the wanted quantiles, few
between them (Cormode, Korn, Muthukrishnan and Srivastava: "Effective computation of biased
quantiles over data streams"). Each sample stands for `width` numbers up to and including itself,
and its rank is known to within `delta`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

#: What Prometheus' client libraries use: a minute, given up a fifth at a time.
WINDOW_NS = 60 * 1_000_000_000
_PARTS = 5

#: So many numbers are gathered before they are merged into the samples.
_BUFFER = 500


class Target(NamedTuple):
    """A quantile that is wanted, 0 to 1, and by how much its rank may be wrong."""

    quantile: float
    error: float


class _Sample(NamedTuple):
    value: float
    width: int
    delta: int


class Sketch:
    """The samples of all numbers since it was made."""

    __slots__ = ("_buffer", "_count", "_samples", "_targets")

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets
        self._samples: list[_Sample] = []
        self._buffer: list[float] = []
        #: Numbers in the samples, without those in the buffer.
        self._count = 0

    def __repr__(self) -> str:
        return f"<Sketch of {self._count + len(self._buffer)} in {len(self._samples)} samples>"

    def insert(self, value: float) -> None:
        """Take a number."""
        self._buffer.append(value)
        if len(self._buffer) >= _BUFFER:
            self._merge()

    def quantile(self, wanted: float) -> float:
        """The number at this part of the sorted stream; not a number without any."""
        self._merge()
        if not self._samples:
            return math.nan
        rank = math.ceil(wanted * self._count)
        bound = rank + self._allowed(rank) / 2
        below = 0
        chosen = self._samples[0]
        for sample in self._samples:
            if below + sample.width + sample.delta > bound and below:
                return chosen.value
            below += sample.width
            chosen = sample
        return chosen.value

    def _allowed(self, rank: float) -> float:
        """How far apart two neighbours may be at a rank."""
        count = self._count
        least = count + 1.0
        for quantile, error in self._targets:
            if rank <= quantile * count:
                allowed = 2 * error * (count - rank) / (1 - quantile) if quantile < 1 else least
            else:
                allowed = 2 * error * rank / quantile if quantile > 0 else least
            least = min(least, allowed)
        return max(least, 1.0)

    def _merge(self) -> None:
        if not self._buffer:
            return
        merged: list[_Sample] = []
        old = iter(self._samples)
        following = next(old, None)
        rank = 0
        for value in sorted(self._buffer):
            while following is not None and following.value <= value:
                merged.append(following)
                rank += following.width
                following = next(old, None)
            at_an_end = following is None or not merged
            delta = 0 if at_an_end else max(math.floor(self._allowed(rank)) - 1, 0)
            merged.append(_Sample(value, 1, delta))
            rank += 1
            self._count += 1
        if following is not None:
            merged.append(following)
            merged.extend(old)
        self._buffer.clear()
        self._samples = self._compressed(merged)

    def _compressed(self, samples: list[_Sample]) -> list[_Sample]:
        """Without the samples that no target needs, from the last to the first."""
        kept = [samples[-1]]
        rank = self._count - samples[-1].width
        for sample in reversed(samples[:-1]):
            last = kept[-1]
            rank -= sample.width
            needed = sample.width + last.width + last.delta > self._allowed(rank)
            if needed or sample is samples[0]:
                kept.append(sample)
            else:
                kept[-1] = _Sample(last.value, sample.width + last.width, last.delta)
        kept.reverse()
        return kept


class WindowedQuantiles:
    """The quantiles of the numbers of about the last minute.

    Every number goes into all of a few sketches; the oldest one answers, and is begun anew when its
    time is over.
    """

    __slots__ = ("_first", "_sketches", "_targets", "_turn_ns")

    def __init__(self, targets: Sequence[Target], now_ns: int) -> None:
        self._targets = targets
        self._sketches = [Sketch(targets) for _ in range(_PARTS)]
        self._first = 0
        self._turn_ns = now_ns + WINDOW_NS // _PARTS

    def __repr__(self) -> str:
        return f"<WindowedQuantiles {self._sketches[self._first]!r}>"

    def insert(self, value: float, now_ns: int) -> None:
        """Take a number at a moment of the monotonic clock."""
        if now_ns >= self._turn_ns:
            self._turn(now_ns)
        for sketch in self._sketches:
            sketch.insert(value)

    def values(self, now_ns: int) -> list[tuple[float, float]]:
        """Each wanted quantile and its number; not a number where there was none."""
        if now_ns >= self._turn_ns:
            self._turn(now_ns)
        oldest = self._sketches[self._first]
        return [(target.quantile, oldest.quantile(target.quantile)) for target in self._targets]

    def _turn(self, now_ns: int) -> None:
        part = WINDOW_NS // _PARTS
        for _ in range(min((now_ns - self._turn_ns) // part + 1, _PARTS)):
            self._sketches[self._first] = Sketch(self._targets)
            self._first = (self._first + 1) % _PARTS
        self._turn_ns += ((now_ns - self._turn_ns) // part + 1) * part
