"""Answers in the order of their use, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict

from .cache import CachedAnswer


class LruAnswers:
    """Answers by their keys; when they take too much, those go that were used longest ago."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        #: The sum of the sizes of everything in `_answers`, never above the limit.
        self.used_bytes = 0
        self.evictions = 0
        self._answers: OrderedDict[bytes, CachedAnswer] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LruAnswers: {len(self)} in {self.used_bytes} of {self.limit_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._answers

    def use(self, key: bytes) -> CachedAnswer | None:
        """The answer of a key, which is the last to go from now on; None without one."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def fits(self, size: int) -> bool:
        """Whether an answer of this size can be kept at all."""
        return size <= self.limit_bytes

    def keep(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep an answer that fits, in place of an older one of its key."""
        self._drop(self._answers.pop(key, None))
        self.used_bytes += answer.byte_size
        self._answers[key] = answer
        while self.used_bytes > self.limit_bytes:
            _key, oldest = self._answers.popitem(last=False)
            self._drop(oldest)
            self.evictions += 1

    def clear(self) -> None:
        """Drop everything."""
        self._answers.clear()
        self.used_bytes = 0

    def _drop(self, answer: CachedAnswer | None) -> None:
        if answer is not None:
            self.used_bytes -= answer.byte_size
