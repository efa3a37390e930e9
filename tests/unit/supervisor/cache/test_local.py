"""The cache in memory: its copies are its own, its bytes are bounded, and it counts."""

from __future__ import annotations

import pytest

from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.cache.cache import THREAD_LIMIT_BYTES, CachedAnswer
from tritonpy.supervisor.cache.local import LocalCache

pytestmark = pytest.mark.anyio


def answer(data: bytes | bytearray) -> CachedAnswer:
    return CachedAnswer([Tensor("OUT", "UINT8", (len(data),), memoryview(data))], {"p": 1})


def bytes_of(found: CachedAnswer | None) -> bytes:
    assert found is not None
    (tensor,) = found.outputs
    assert isinstance(tensor.data, memoryview)
    return bytes(tensor.data)


@pytest.mark.parametrize("size", [0, 5, THREAD_LIMIT_BYTES + 1])
async def test_an_answer_is_copied_and_given_again(size: int) -> None:
    cache = LocalCache(1 << 20)
    await cache.start()
    lent = bytearray(b"x" * size)
    assert await cache.lookup(b"k") is None

    await cache.insert(b"k", answer(lent))
    lent[:] = b"y" * size  # the worker writes its next output there

    found = await cache.lookup(b"k")
    assert bytes_of(found) == b"x" * size
    assert found is not None
    assert found.parameters == {"p": 1}
    assert found.outputs[0].shape == (size,)


async def test_a_view_outlives_the_answer_and_nobody_can_write_to_it() -> None:
    cache = LocalCache(1 << 20)
    await cache.insert(b"k", answer(b"abc"))
    found = await cache.lookup(b"k")
    assert found is not None
    data = found.outputs[0].data
    assert isinstance(data, memoryview)
    assert data.readonly

    await cache.close()

    assert bytes(data) == b"abc"
    assert await cache.lookup(b"k") is None


async def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out() -> None:
    cache = LocalCache(answer(b"abc").byte_size)
    await cache.insert(b"k", answer(b"abc"))
    await cache.insert(b"l", answer(b"abcd"))
    assert bytes_of(await cache.lookup(b"k")) == b"abc"
    assert await cache.lookup(b"l") is None
    assert cache.snapshot().evictions == 0


async def test_what_happens_is_counted() -> None:
    size = answer(b"abc").byte_size
    cache = LocalCache(2 * size)
    for key in (b"a", b"b", b"b", b"c"):
        await cache.insert(key, answer(b"abc"))
    for key in (b"a", b"b", b"c"):
        await cache.lookup(key)

    seen = cache.snapshot()

    assert (seen.size_bytes, seen.used_bytes, seen.entries) == (2 * size, 2 * size, 2)
    assert (seen.lookups, seen.hits, seen.misses, seen.evictions) == (3, 2, 1, 1)
    assert seen.lookup_ns > 0
    assert seen.insertion_ns > 0
    assert "2 in" in repr(cache)
