"""Metrics of a model's own, shown among the server's."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import ClassVar, NoReturn, SupportsFloat

from ...ipc.errors import StatusError
from .errors import TritonModelException
from .metric_registry import REGISTRY, Family
from .metric_series import Series

_FAMILY_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


class MetricKind(IntEnum):
    """How a metric's value may change."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class Metric:
    """One metric of a family: it lives as long as the family's object does."""

    __slots__ = ("_family", "_kind", "_series")

    def __init__(self, family: Family, kind: MetricKind, series: Series) -> None:
        """Made by `MetricFamily.Metric`."""
        self._family = family
        self._kind = kind
        self._series = series

    def __repr__(self) -> str:
        return f"<Metric {self._series!r}>"

    def increment(self, value: SupportsFloat, /) -> None:
        """Raise a counter or a gauge by a value, which for a counter is not negative."""
        doing, number = "increment", _number("increment", value)
        self._require_alive(doing)
        if self._kind is MetricKind.HISTOGRAM:
            self._refuse(doing, "Increment")
        if self._kind is MetricKind.COUNTER and number < 0:
            raise _failed(
                doing,
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by "
                "non-negative values.",
            )
        REGISTRY.increment(self._series, number)

    def set(self, value: SupportsFloat, /) -> None:
        """Give a gauge a value."""
        doing, number = "set", _number("set", value)
        self._require_alive(doing)
        if self._kind is not MetricKind.GAUGE:
            self._refuse(doing, "Set")
        REGISTRY.set(self._series, number)

    def observe(self, value: SupportsFloat, /) -> None:
        """Count a value in a histogram."""
        doing, number = "observe", _number("observe", value)
        self._require_alive(doing)
        if self._kind is not MetricKind.HISTOGRAM:
            self._refuse(doing, "Observe")
        REGISTRY.observe(self._series, number)

    def value(self) -> float:
        """What this process has made of a counter or a gauge; others may add to it."""
        self._require_alive("get")
        if self._kind is MetricKind.HISTOGRAM:
            self._refuse("get", "Value")
        return self._series.value

    def _require_alive(self, doing: str) -> None:
        if self._family.is_closed:
            raise TritonModelException(
                f"Failed to {doing} metric value: Invalid metric operation as the corresponding "
                "'MetricFamily' has been deleted. The 'MetricFamily' object should be deleted "
                "AFTER its corresponding 'Metric' objects have been deleted."
            )

    def _refuse(self, doing: str, operation: str) -> NoReturn:
        raise _failed(
            doing, f"TRITONSERVER_METRIC_KIND_{self._kind.name} does not support {operation}"
        )


#: MetricFamily has a method of this name.
_Metric = Metric


class MetricFamily:
    """Metrics of one name and kind that differ by their labels.

    Instances of a model, and other models, may make the same family and the same metrics: they are
    added up. A family that is garbage-collected takes its metrics with it.
    """

    COUNTER: ClassVar[MetricKind] = MetricKind.COUNTER
    GAUGE: ClassVar[MetricKind] = MetricKind.GAUGE
    HISTOGRAM: ClassVar[MetricKind] = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        """Make the family, or join it.

        Raises TritonModelException for a name that Prometheus does not allow, or that stands for
        another kind of metric.
        """
        if not (isinstance(name, str) and isinstance(description, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("MetricFamily expects its name and description to be str")
        if not isinstance(kind, MetricKind):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"MetricFamily expects a kind such as MetricFamily.COUNTER, got {kind!r}"
            )
        if not _FAMILY_NAME.fullmatch(name):
            raise _not_made("MetricFamily", "Invalid metric name")
        self._kind = kind
        try:
            self._family = REGISTRY.open(name, description, kind.name.lower())
        except StatusError as error:
            raise _not_made("MetricFamily", error.message) from None

    def __repr__(self) -> str:
        return f"<MetricFamily '{self._family.name}' {self._kind.name}>"

    def Metric(
        self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None
    ) -> _Metric:
        """The metric with these labels, made or joined; `buckets` are a histogram's upper bounds.

        Raises TritonModelException for labels that Prometheus does not allow, for a histogram
        without a list of rising bounds, and for buckets of anything else.
        """
        pairs = _checked_labels(labels, self._kind)
        bounds = _checked_buckets(buckets, self._kind)
        return Metric(self._family, self._kind, REGISTRY.add(self._family, pairs, bounds))

    def __del__(self) -> None:
        family = getattr(self, "_family", None)  # absent when it could not be made
        if family is not None:
            family.close()


def _checked_labels(
    labels: Mapping[str, str] | None, kind: MetricKind
) -> tuple[tuple[str, str], ...]:
    if labels is None:
        return ()
    if not isinstance(labels, dict):
        raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
    for name, value in labels.items():
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _not_made("Metric", "attempt to access JSON non-string as string")
        taken = kind is MetricKind.HISTOGRAM and name == "le"  # the label of each of its buckets
        if taken or not _LABEL_NAME.fullmatch(str(name)):
            raise _not_made("Metric", "Invalid label name")
    return tuple(sorted(labels.items()))


def _checked_buckets(buckets: Sequence[float] | None, kind: MetricKind) -> tuple[float, ...] | None:
    if buckets is None:
        if kind is MetricKind.HISTOGRAM:
            raise TritonModelException("Failed to create metric. Missing required buckets.")
        return None
    if not isinstance(buckets, list):
        raise TritonModelException("Failed to create metric. Buckets must be a list.")
    if kind is not MetricKind.HISTOGRAM:
        raise TritonModelException("Failed to create metric. Unexpected buckets found.")
    bounds = tuple(_number("Metric", bound) for bound in buckets)
    rising = all(a < b for a, b in itertools.pairwise(bounds))
    if not rising or any(math.isnan(bound) for bound in bounds):
        raise _not_made("Metric", "Bucket Boundaries must be strictly sorted")
    return bounds[:-1] if bounds[-1:] == (math.inf,) else bounds  # that bucket is always there


def _number(function: str, value: SupportsFloat) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{function} expects a number, got {type(value).__name__}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{function} expects a number, got {type(value).__name__}") from None


def _failed(doing: str, reason: str) -> TritonModelException:
    return TritonModelException(
        f"Failed to {doing} metric value: Failed to process the request for model "
        f"'{REGISTRY.instance}', message: {reason}"
    )


def _not_made(what: str, reason: str) -> TritonModelException:
    return TritonModelException(
        f"Error when creating {what}: Failed to process the request for model "
        f"'{REGISTRY.instance}', message: {reason}"
    )
