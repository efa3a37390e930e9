"""Offsets in, offsets out: an address-ordered, next-fit free list.

Pure bookkeeping: it never touches the memory that it speaks of. Next-fit places consecutive
requests side by side, so that a batch of them is one contiguous view; one long-lived lease never
blocks the rest, as it would in a ring. Addresses below `frontier` were used before and their pages
are warm, so all of them are tried before the frontier moves up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

#: Offsets and sizes are multiples of this: a cache line, and enough for any vector load.
ALIGNMENT = 64


class Allocator:
    """The free list of `size` bytes."""

    def __init__(self, size: int) -> None:
        if size <= 0 or size % ALIGNMENT:
            raise ValueError(f"the size must be a positive multiple of {ALIGNMENT}, got {size}")
        self.size = size
        #: One past the highest byte handed out since the last `lower_frontier`.
        self.frontier = 0
        #: Bytes handed out now, padding included.
        self.used = 0
        #: Sorted, disjoint and never adjacent: the holes are [start, _ends[start]).
        self._starts: list[int] = [0]
        self._ends: dict[int, int] = {0: size}
        self._sizes: dict[int, int] = {}
        self._rover = 0

    @property
    def span_count(self) -> int:
        """How many spans are handed out."""
        return len(self._sizes)

    def __repr__(self) -> str:
        return (
            f"<Allocator {self.used} of {self.size} bytes used in {len(self._sizes)} spans, "
            f"{len(self._starts)} holes, frontier {self.frontier}>"
        )

    def allocate(self, size: int) -> int | None:
        """Hand out `size` bytes and return their offset, or None when no hole is large enough."""
        need = max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        hole = self._find(need)
        if hole is None:
            return None
        start, at = hole
        end = self._ends[start]
        index = bisect_left(self._starts, start)
        if at == start:
            del self._starts[index], self._ends[start]
        else:
            self._ends[start] = at
            index += 1
        if at + need < end:
            self._starts.insert(index, at + need)
            self._ends[at + need] = end
        self._sizes[at] = need
        self.used += need
        self._rover = at + need
        self.frontier = max(self.frontier, at + need)
        return at

    def free(self, offset: int) -> None:
        """Take back what `allocate` returned. Raises KeyError for anything else."""
        size = self._sizes.pop(offset)
        self.used -= size
        start, end = offset, offset + size
        index = bisect_left(self._starts, start)
        if index < len(self._starts) and self._starts[index] == end:
            del self._starts[index]
            end = self._ends.pop(end)
        if index > 0 and self._ends[self._starts[index - 1]] == start:
            self._ends[self._starts[index - 1]] = end
            return
        insort(self._starts, start)
        self._ends[start] = end

    def holes(self) -> list[tuple[int, int]]:
        """The free ranges as (start, end), in order of address."""
        return [(start, self._ends[start]) for start in self._starts]

    def lower_frontier(self) -> None:
        """Forget that anything above the highest span in use was ever used."""
        last = self._starts[-1] if self._starts else self.size
        free_to_the_end = bool(self._starts) and self._ends[last] == self.size
        self.frontier = last if free_to_the_end else self.size

    def _find(self, need: int) -> tuple[int, int] | None:
        """The hole to take from and the offset to take: warm pages first, then the lowest."""
        starts, ends, rover, frontier = self._starts, self._ends, self._rover, self.frontier
        first = max(0, bisect_right(starts, rover) - 1)
        for index in range(first, len(starts)):
            start = starts[index]
            at = max(start, rover)
            if at + need > frontier:
                break
            if at + need <= ends[start]:
                return start, at
        for start in starts:
            if start + need > frontier:
                break
            if start + need <= ends[start]:
                return start, start
        for start in starts:
            if start + need <= ends[start]:
                return start, start
        return None
