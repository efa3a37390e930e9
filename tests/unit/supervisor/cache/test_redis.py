"""The cache in a real Redis: shared, and never a reason for anybody to fail or to wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as client
import trustme
from msgspec.structs import replace
from support.redis import RunningRedis, free_port, redis_server

from tritonpy.ipc.errors import InternalError
from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.cache.cache import THREAD_LIMIT_BYTES, CachedAnswer
from tritonpy.supervisor.cache.redis import LARGEST_ANSWER_BYTES, RedisCache
from tritonpy.supervisor.cache.redis_config import RedisConfig

pytestmark = pytest.mark.anyio


@pytest.fixture(name="redis")
def running_redis() -> Iterator[RunningRedis]:
    with redis_server() as redis:
        yield redis


def answer(size: int) -> CachedAnswer:
    data = memoryview(b"x" * size)
    return CachedAnswer([Tensor("OUT", "UINT8", (size,), data)], {"p": True, "q": 1.5})


async def opened(host: str, **more: object) -> RedisCache:
    cache = RedisCache(RedisConfig(host=host, port=0, **more))  # type: ignore[arg-type]
    await cache.start()
    return cache


@pytest.mark.parametrize("size", [0, 5, THREAD_LIMIT_BYTES + 1])
async def test_an_answer_is_kept_and_given_again_to_every_server(
    redis: RunningRedis, size: int
) -> None:
    one, other = await opened(redis.path), await opened(redis.path, db=0)
    assert await one.lookup(b"k") is None

    await one.insert(b"k", answer(size))

    found = await other.lookup(b"k")
    assert found is not None
    (tensor,) = found.outputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("OUT", "UINT8", (size,))
    assert isinstance(tensor.data, memoryview)
    assert bytes(tensor.data) == b"x" * size
    assert found.parameters == {"p": True, "q": 1.5}
    for cache in (one, other):
        await cache.close()
        assert await cache.lookup(b"k") is None


async def test_databases_are_apart(redis: RunningRedis) -> None:
    one, other = await opened(redis.path), await opened(redis.path, db=1)
    await one.insert(b"k", answer(1))
    assert await other.lookup(b"k") is None
    await one.close()
    await other.close()


async def test_a_large_answer_is_not_kept(redis: RunningRedis) -> None:
    cache = await opened(redis.path)
    await cache.insert(b"k", answer(LARGEST_ANSWER_BYTES))
    assert await cache.lookup(b"k") is None
    await cache.close()


async def test_what_somebody_else_put_there_is_no_answer(
    redis: RunningRedis, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await opened(redis.path)
    await cache.insert(b"k", answer(1))
    with client.Redis(unix_socket_path=redis.path) as direct:
        (key,) = direct.keys()
        direct.set(key, b"nonsense")

    assert await cache.lookup(b"k") is None

    assert "is not ours" in caplog.text
    await cache.close()


async def test_nobody_listening_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match=r"Failed to initialize RedisCache: .*nobody.sock"):
        await opened(str(tmp_path / "nobody.sock"))


async def test_a_password_is_needed_where_there_is_one(redis: RunningRedis) -> None:
    with redis_server("--requirepass", "secret") as guarded:
        with pytest.raises(InternalError, match="Failed to initialize RedisCache"):
            await opened(guarded.path)
        await (await opened(guarded.path, password="secret")).close()


async def test_when_redis_ends_everything_is_a_miss_and_the_log_says_so_once(
    redis: RunningRedis, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await opened(redis.path)
    await cache.insert(b"k", answer(1))

    redis.end()

    for _ in range(3):
        assert await cache.lookup(b"k") is None
        await cache.insert(b"l", answer(1))
    assert caplog.text.count("fails, and its models run without") == 1
    assert "lasting" in repr(cache)
    await cache.close()


async def test_a_redis_that_hangs_delays_one_request_for_the_timeout_and_then_none(
    redis: RunningRedis,
) -> None:
    cache = await opened(redis.path, socket_timeout=50)
    redis.hang()
    assert await cache.lookup(b"k") is None
    # Would time out again, were it asked: the pause after a failure is longer than this test.
    for _ in range(3):
        assert await cache.lookup(b"k") is None
    redis.go_on()
    await cache.close()


async def test_a_connection_may_be_encrypted_and_both_ends_are_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("redis.example")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("cacert", "cert", "key")}
    authority.cert_pem.write_to_path(files["cacert"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    options = ["--tls-cert-file", files["cert"], "--tls-key-file", files["key"]]
    port = free_port()
    with redis_server("--tls-port", str(port), "--tls-ca-cert-file", files["cacert"], *options):
        config = RedisConfig(
            host="127.0.0.1",
            port=port,
            sni="redis.example",
            cert=files["cert"],
            key=files["key"],
            cacert=files["cacert"],
        )

        cache = RedisCache(config)
        await cache.start()
        await cache.insert(b"k", answer(1))
        assert await cache.lookup(b"k") is not None
        await cache.close()

        for wrong in ({"sni": "somebody.else"}, {"cacert": ""}, {"cert": "", "key": ""}):
            cache = RedisCache(replace(config, **wrong))
            with pytest.raises(InternalError, match="Failed to initialize RedisCache"):
                await cache.start()
