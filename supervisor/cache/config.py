"""Which response cache there is, by the settings of the command line."""

from __future__ import annotations

from collections.abc import Mapping

from ...ipc.errors import InternalError, InvalidArgumentError
from .cache import ResponseCache
from .local import LocalCache
from .redis_config import RedisConfig, redis_config


def open_cache(
    settings: Mapping[str, Mapping[str, str]], environment: Mapping[str, str]
) -> ResponseCache | None:
    """The cache that the settings ask for, not started yet; None when they ask for none.

    Raises StatusError for settings that make no cache.
    """
    if not settings:
        return None
    if len(settings) > 1:
        raise InvalidArgumentError(
            f"--cache-config configures {' and '.join(sorted(settings))}, and a server has one "
            f"response cache"
        )
    ((name, given),) = settings.items()
    if name == "local":
        return LocalCache(_local_size(given))
    if name == "redis":
        return _redis(redis_config(given, environment))
    raise InvalidArgumentError(
        f"--cache-config configures '{name}', and the response caches are 'local' and 'redis'"
    )


def _local_size(given: Mapping[str, str]) -> int:
    unknown = given.keys() - {"size"}
    if unknown:
        raise InvalidArgumentError(
            f"--cache-config=local has no setting '{min(unknown)}'; it has size"
        )
    text = given.get("size", "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or not int(text):
        raise InvalidArgumentError(
            f"Failed to initialize LocalCache: config didn't contain a valid 'size' field: "
            f"expected a number of bytes above 0, got '{text}'"
        )
    return int(text)


def _redis(config: RedisConfig) -> ResponseCache:
    try:
        from .redis import RedisCache
    except ImportError:
        raise InternalError(
            "Failed to initialize RedisCache: the package 'redis' is missing: "
            "pip install 'tritonpy-supervisor[redis]'"
        ) from None
    return RedisCache(config)
