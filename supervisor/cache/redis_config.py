"""The settings of a Redis, as the command line and the environment give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from ...ipc.errors import InvalidArgumentError

#: User and password of Redis, where the command line, which everybody can read, has none.
USER_VARIABLE = "TRITONCACHE_REDIS_USERNAME"
PASSWORD_VARIABLE = "TRITONCACHE_REDIS_PASSWORD"

_NO_ADDRESS = (
    "Failed to initialize RedisCache, didn't specify address. Must at a minimum specify 'host' and "
    "'port' in the configuration - e.g. tritonserver --cache-config redis,host=redis "
    "--cache-config redis,port=6379 --model-repository=/models ..."
)

_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class RedisConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Redis is and how it is spoken to. Times are milliseconds; 0 is a second.

    A host that begins with / is the path of a socket. `pool_size` is how many connections there are
    at most, `wait_timeout` how long a request waits for one of them. TLS is used when it is enabled
    or one of its files is named; `sni` is the name that the certificate must have, if not the
    host's.
    """

    host: str
    port: Annotated[int, Meta(ge=0, le=65535)]
    user: str = "default"
    password: str = ""
    db: _Count = 0
    connect_timeout: _Count = 0
    socket_timeout: _Count = 0
    pool_size: Annotated[int, Meta(ge=1, le=10_000)] = 1
    wait_timeout: _Count = 1000
    tls_enabled: bool = False
    cert: str = ""
    key: str = ""
    cacert: str = ""
    sni: str = ""

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls_enabled or bool(self.cert or self.key or self.cacert or self.sni)


def redis_config(given: Mapping[str, str], environment: Mapping[str, str]) -> RedisConfig:
    """The settings of a Redis. Raises InvalidArgumentError for a wrong or a missing one."""
    if not given.get("host") or not given.get("port"):
        raise InvalidArgumentError(_NO_ADDRESS)
    known = RedisConfig.__struct_fields__
    for key in given:
        if key not in known:
            raise InvalidArgumentError(
                f"--cache-config=redis has no setting '{key}'; it has {', '.join(known)}"
            )
    values: dict[str, str] = {}
    for field, variable in (("user", USER_VARIABLE), ("password", PASSWORD_VARIABLE)):
        if environment.get(variable):
            values[field] = environment[variable]
    values |= given
    try:
        return msgspec.convert(values, RedisConfig, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"--cache-config=redis is wrong: {error}") from None
