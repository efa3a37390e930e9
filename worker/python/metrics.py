"""Metrics of a model's own."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from .errors import unavailable


class MetricKind(IntEnum):
    """How a metric's value may change."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class MetricFamily:
    """Metrics of one name and kind that differ by their labels."""

    COUNTER: ClassVar[MetricKind] = MetricKind.COUNTER
    GAUGE: ClassVar[MetricKind] = MetricKind.GAUGE
    HISTOGRAM: ClassVar[MetricKind] = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        """Raises TritonModelException: models cannot have metrics of their own yet."""
        unavailable(f"Creating a model's own metrics (metric family '{name}')")
