"""The response cache in a Redis, which several servers may share, and which outlives them.

Redis is asked on the event loop and never waited for longer than its timeouts. When it fails, every
look-up is a miss; for a moment it is then not asked at all, so that a Redis that hangs delays few
requests. What it throws away when it is full is its own affair (`maxmemory-policy`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol, cast

import msgspec
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ...ipc.errors import InternalError
from .cache import THREAD_LIMIT_BYTES, CachedAnswer
from .outage import Outage
from .redis_config import RedisConfig

log = logging.getLogger(__name__)

#: Before every key: other programs may use the same Redis, and the form of the values may change.
_PREFIX = b"tritonpy:answer:1:"

#: A larger answer is not kept: the client copies it several times, on the event loop.
LARGEST_ANSWER_BYTES = 1024 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CachedAnswer).decode

#: What the client raises when Redis cannot be reached or does not do what it is asked.
_FAILURES = (RedisError, OSError, TimeoutError)


class _Client(Protocol):
    """What we use of the client, which leaves half of its types open."""

    async def ping(self) -> object: ...

    async def get(self, name: bytes) -> bytes | None: ...

    async def set(self, name: bytes, value: bytes) -> object: ...

    async def aclose(self) -> None: ...


class RedisCache:
    """Keeps answers in a Redis."""

    is_shared = True

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        self._client: _Client | None = None
        self._outage = Outage()

    def __repr__(self) -> str:
        return f"<RedisCache at {self._config.host}:{self._config.port}, {self._outage!r}>"

    async def start(self) -> None:
        """Connect. Raises InternalError when that fails."""
        self._client = _client(self._config)
        try:
            await self._client.ping()
        except _FAILURES as error:
            await self.close()
            raise InternalError(f"Failed to initialize RedisCache: {error}") from None

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def lookup(self, key: bytes) -> CachedAnswer | None:
        """The answer that is kept under a key; None without one, and while Redis fails."""
        client = self._available()
        if client is None:
            return None
        try:
            data = await client.get(_PREFIX + key)
        except _FAILURES as error:
            self._failed(error)
            return None
        self._outage.ended()
        if data is None:
            return None
        try:
            return _decode(data)
        except msgspec.DecodeError:
            log.warning("the response cache's Redis has a value under our key that is not ours")
            return None

    async def insert(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep an answer, unless it is large or Redis fails."""
        client = self._available()
        size = answer.byte_size
        if client is None or size > LARGEST_ANSWER_BYTES:
            return
        if size <= THREAD_LIMIT_BYTES:
            data = _encode(answer)
        else:
            data = await asyncio.get_running_loop().run_in_executor(None, _encode, answer)
        try:
            await client.set(_PREFIX + key, data)
        except _FAILURES as error:
            self._failed(error)

    def snapshot(self) -> None:
        """Others change it as well: Triton has no figures of it either."""

    def _available(self) -> _Client | None:
        return self._client if self._outage.may_ask(time.monotonic()) else None

    def _failed(self, error: Exception) -> None:
        if self._outage.failed(time.monotonic()):
            log.warning(
                "the response cache's Redis at %s:%d fails, and its models run without: %s",
                self._config.host,
                self._config.port,
                error or type(error).__name__,
            )


def _client(config: RedisConfig) -> _Client:
    options: dict[str, Any] = {
        "username": config.user,
        "password": config.password or None,
        "db": config.db,
        "socket_connect_timeout": (config.connect_timeout or 1000) / 1000,
        "socket_timeout": (config.socket_timeout or 1000) / 1000,
        "retry": Retry(NoBackoff(), 0),  # a miss costs less than a second try
        "protocol": 2,
    }
    kind: type[Connection | UnixDomainSocketConnection] = Connection
    if config.host.startswith("/"):
        kind = UnixDomainSocketConnection
        options["path"] = config.host
    else:
        options |= {"host": config.host, "port": config.port}
        if config.uses_tls:
            kind = _TlsConnection
            options |= {
                "ssl_certfile": config.cert or None,
                "ssl_keyfile": config.key or None,
                "ssl_ca_certs": config.cacert or None,
                "expected_name": config.sni,
            }
    if not config.password and config.user == "default":
        del options["username"]  # a Redis without a password refuses names
    pool = BlockingConnectionPool(
        max_connections=config.pool_size,
        timeout=config.wait_timeout / 1000,
        connection_class=kind,
        **options,
    )
    return cast("_Client", Redis.from_pool(pool))


class _TlsConnection(SSLConnection):
    """A connection by TLS to a server whose certificate may have another name than the host."""

    def __init__(self, *, expected_name: str, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]
        self._expected_name = expected_name

    def _connection_arguments(self) -> dict[str, Any]:
        given = super()._connection_arguments()  # pyright: ignore
        return {
            **cast("dict[str, Any]", given),
            "server_hostname": self._expected_name or self.host,
        }
