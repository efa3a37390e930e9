"""The order of use decides what goes, and the bytes never exceed the limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.cache.cache import CachedAnswer
from tritonpy.supervisor.cache.lru import LruAnswers


def answer(size: int) -> CachedAnswer:
    return CachedAnswer([Tensor("OUT", "UINT8", (size,), memoryview(bytes(size)))], {})


BASE = answer(0).byte_size


def test_what_was_used_longest_ago_goes_first() -> None:
    answers = LruAnswers(3 * BASE)
    for key in (b"a", b"b", b"c"):
        answers.keep(key, answer(0))
    assert answers.use(b"a") is not None

    answers.keep(b"d", answer(0))

    assert [key in answers for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert answers.evictions == 1
    assert answers.use(b"b") is None
    assert "3 in" in repr(answers)


def test_a_large_answer_drives_out_as_many_as_it_needs() -> None:
    answers = LruAnswers(4 * BASE)
    for key in (b"a", b"b", b"c"):
        answers.keep(key, answer(0))
    answers.keep(b"d", answer(2 * BASE))
    assert [key in answers for key in (b"a", b"b", b"c", b"d")] == [False, False, True, True]
    assert answers.used_bytes == 4 * BASE
    assert not answers.fits(4 * BASE + 1)


_steps = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 900)), max_size=60)


@given(_steps)
def test_it_does_what_a_plain_list_would(steps: list[tuple[bool, int, int]]) -> None:
    limit = 3 * BASE
    answers = LruAnswers(limit)
    #: Key and answer, the one that was used last at the end.
    plain: list[tuple[bytes, CachedAnswer]] = []
    for keeps, number, size in steps:
        key = bytes([number])
        there = [item for item in plain if item[0] == key]
        plain = [item for item in plain if item[0] != key]
        if keeps:
            made = answer(size)
            if not answers.fits(made.byte_size):
                plain += there
                continue
            answers.keep(key, made)
            plain.append((key, made))
            while sum(item.byte_size for _key, item in plain) > limit:
                del plain[0]
        else:
            assert answers.use(key) is (there[0][1] if there else None)
            plain += there
        assert answers.used_bytes == sum(item.byte_size for _key, item in plain) <= limit
        assert len(answers) == len(plain)
        assert all(key in answers for key, _item in plain)
    answers.clear()
    assert (len(answers), answers.used_bytes) == (0, 0)
