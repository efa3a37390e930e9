"""The metric families of the response cache: those of each model that uses it, and its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .statistics import StatisticsSnapshot


class CacheReading(Protocol):
    """What is read of a cache; times are nanoseconds."""

    @property
    def size_bytes(self) -> int:
        """How much it may hold."""
        ...

    @property
    def used_bytes(self) -> int:
        """How much it holds."""
        ...

    @property
    def entries(self) -> int:
        """How many answers it holds."""
        ...

    @property
    def lookups(self) -> int:
        """How often it was asked."""
        ...

    @property
    def hits(self) -> int:
        """How often it had an answer."""
        ...

    @property
    def misses(self) -> int:
        """How often it had none."""
        ...

    @property
    def evictions(self) -> int:
        """How many answers had to go for others."""
        ...

    @property
    def lookup_ns(self) -> int:
        """How long all look-ups took."""
        ...

    @property
    def insertion_ns(self) -> int:
        """How long all insertions took."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """A counter that every version which uses the cache has a series of."""

    name: str
    help: str
    value: Callable[[StatisticsSnapshot], int]


@dataclass(frozen=True, slots=True)
class CacheGauge:
    """A gauge of the cache itself."""

    name: str
    help: str
    value: Callable[[CacheReading], int | float]


MODEL_FAMILIES: tuple[ModelFamily, ...] = (
    ModelFamily(
        "nv_cache_num_hits_per_model",
        "Requests that the response cache answered",
        lambda s: s.inference_stats.cache_hit.count,
    ),
    ModelFamily(
        "nv_cache_hit_duration_per_model",
        "Microseconds spent on look-ups that found an answer",
        lambda s: s.inference_stats.cache_hit.ns // 1000,
    ),
    ModelFamily(
        "nv_cache_num_misses_per_model",
        "Requests that the response cache had no answer to",
        lambda s: s.inference_stats.cache_miss.count,
    ),
    ModelFamily(
        "nv_cache_miss_duration_per_model",
        "Microseconds spent on look-ups that found nothing, and on keeping the answers",
        lambda s: s.inference_stats.cache_miss.ns // 1000,
    ),
)

GAUGES: tuple[CacheGauge, ...] = (
    CacheGauge(
        "nv_cache_util",
        "Use of the response cache's memory, 0 to 1",
        lambda cache: cache.used_bytes / cache.size_bytes,
    ),
    CacheGauge(
        "nv_cache_num_entries", "Answers in the response cache", lambda cache: cache.entries
    ),
    CacheGauge("nv_cache_num_hits", "Look-ups that found an answer", lambda cache: cache.hits),
    CacheGauge("nv_cache_num_misses", "Look-ups that found nothing", lambda cache: cache.misses),
    CacheGauge("nv_cache_num_lookups", "Look-ups", lambda cache: cache.lookups),
    CacheGauge(
        "nv_cache_num_evictions",
        "Answers that had to go for others",
        lambda cache: cache.evictions,
    ),
    CacheGauge(
        "nv_cache_lookup_duration",
        "Microseconds spent on looking up",
        lambda cache: cache.lookup_ns // 1000,
    ),
    CacheGauge(
        "nv_cache_insertion_duration",
        "Microseconds spent on keeping answers",
        lambda cache: cache.insertion_ns // 1000,
    ),
)
