"""Whatever is leased, written, given back and trimmed, no span ever shows another one's bytes."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from tritonpy.ipc.arena import CHUNK_BYTES, Arena, MappedArena, create_memory
from tritonpy.ipc.errors import UnavailableError

CHUNKS = 6
SIZE = CHUNKS * CHUNK_BYTES

SIZES = st.one_of(
    st.integers(1, 300),
    st.sampled_from([CHUNK_BYTES - 64, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES]),
)

#: What a rule returns that has made no span.
NOTHING: tuple[int, ...] = ()


class ArenaMachine(RuleBasedStateMachine):
    """A writer that marks both ends of its spans, and a reader in another mapping."""

    spans: Bundle[int] = Bundle("spans")

    def __init__(self) -> None:
        super().__init__()
        self.descriptor = create_memory("tritonpy-test", SIZE)
        self.arena = Arena(self.descriptor, SIZE, owner="the tests")
        self.reader = MappedArena(self.descriptor, SIZE, writable=False)
        self.written: dict[int, tuple[int, bytes]] = {}
        self.serial = 0

    def teardown(self) -> None:
        os.close(self.descriptor)

    @rule(target=spans, size=SIZES)
    def write(self, size: int) -> int | MultipleResults[int]:
        try:
            offset = self.arena.allocate(size)
        except UnavailableError:
            return multiple(*NOTHING)
        self.serial += 1
        mark = self.serial.to_bytes(8, "little")[: min(8, size)]
        view = self.arena.view(offset, size)
        view[: len(mark)] = mark
        view[-len(mark) :] = mark
        self.written[offset] = (size, mark)
        return offset

    @rule(offset=consumes(spans))
    def give_back(self, offset: int) -> None:
        self.arena.release(offset)
        del self.written[offset]

    @rule()
    def trim(self) -> None:
        before = self.arena.committed_bytes
        assert self.arena.trim() == before - self.arena.committed_bytes

    @invariant()
    def readers_see_what_was_written(self) -> None:
        for offset, (size, mark) in self.written.items():
            view = self.reader.view(offset, size)
            # The front may be overwritten by the back of the same small span.
            assert bytes(view[-len(mark) :]) == mark
            if size >= 2 * len(mark):
                assert bytes(view[: len(mark)]) == mark

    @invariant()
    def it_holds_exactly_the_pages_that_it_says(self) -> None:
        assert os.fstat(self.descriptor).st_blocks * 512 == self.arena.committed_bytes

    @invariant()
    def spans_are_committed(self) -> None:
        chunks = {
            chunk
            for offset, (size, _) in self.written.items()
            for chunk in range(offset // CHUNK_BYTES, (offset + size - 1) // CHUNK_BYTES + 1)
        }
        assert self.arena.committed_bytes >= len(chunks) * CHUNK_BYTES


TestArena = ArenaMachine.TestCase
TestArena.settings = settings(max_examples=30, stateful_step_count=40)
