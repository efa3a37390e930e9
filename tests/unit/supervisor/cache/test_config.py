"""The settings of a cache become the cache, or a sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.cache.config import open_cache
from tritonpy.supervisor.cache.local import LocalCache
from tritonpy.supervisor.cache.redis_config import RedisConfig, redis_config

ADDRESS = {"host": "h", "port": "6379"}


def test_without_settings_there_is_no_cache() -> None:
    assert open_cache({}, {}) is None


def test_a_size_makes_a_local_cache_of_it() -> None:
    cache = open_cache({"local": {"size": "1024"}}, {})
    assert isinstance(cache, LocalCache)
    assert cache.snapshot().size_bytes == 1024


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"local": {"size": "0"}}, "Failed to initialize LocalCache.* above 0, got '0'"),
        ({"local": {"size": "x"}}, "got 'x'"),
        ({"local": {"size": "-1"}}, "got '-1'"),
        ({"local": {"size": "1", "foo": "1"}}, "no setting 'foo'; it has size"),
        ({"nope": {"size": "1"}}, "'nope', and the response caches are 'local' and 'redis'"),
        ({"local": {"size": "1"}, "redis": ADDRESS}, "configures local and redis"),
        ({"redis": {"host": "h"}}, "Failed to initialize RedisCache, didn't specify address"),
        ({"redis": {"port": "1"}}, "didn't specify address"),
        ({"redis": {**ADDRESS, "foo": "1"}}, "no setting 'foo'; it has host, port, user"),
        ({"redis": {**ADDRESS, "port": "x"}}, "redis is wrong: .*port"),
        ({"redis": {**ADDRESS, "port": "70000"}}, "<= 65535.*port"),
        ({"redis": {**ADDRESS, "pool_size": "0"}}, ">= 1.*pool_size"),
        ({"redis": {**ADDRESS, "tls_enabled": "perhaps"}}, "tls_enabled"),
    ],
)
def test_wrong_settings_are_refused(
    settings: Mapping[str, Mapping[str, str]], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        open_cache(settings, {})


def test_redis_takes_tritons_settings() -> None:
    given = {
        **ADDRESS,
        "user": "u",
        "password": "p",
        "db": "2",
        "connect_timeout": "10",
        "socket_timeout": "20",
        "pool_size": "4",
        "wait_timeout": "30",
        "tls_enabled": "true",
        "cert": "c.pem",
        "key": "k.pem",
        "cacert": "ca.pem",
        "sni": "name",
    }
    assert redis_config(given, {}) == RedisConfig(
        host="h",
        port=6379,
        user="u",
        password="p",
        db=2,
        connect_timeout=10,
        socket_timeout=20,
        pool_size=4,
        wait_timeout=30,
        tls_enabled=True,
        cert="c.pem",
        key="k.pem",
        cacert="ca.pem",
        sni="name",
    )


def test_secrets_come_from_the_environment_unless_the_command_line_has_them() -> None:
    environment = {"TRITONCACHE_REDIS_USERNAME": "u", "TRITONCACHE_REDIS_PASSWORD": "p"}
    config = redis_config(ADDRESS, environment)
    assert (config.user, config.password) == ("u", "p")
    config = redis_config({**ADDRESS, "user": "v", "password": "q"}, environment)
    assert (config.user, config.password) == ("v", "q")
    config = redis_config(ADDRESS, {})
    assert (config.user, config.password) == ("default", "")


@pytest.mark.parametrize(
    ("more", "tls"),
    [({}, False), ({"tls_enabled": "true"}, True), ({"cacert": "x"}, True), ({"sni": "x"}, True)],
)
def test_tls_is_used_when_anything_of_it_is_configured(more: dict[str, str], tls: bool) -> None:
    assert redis_config({**ADDRESS, **more}, {}).uses_tls is tls
