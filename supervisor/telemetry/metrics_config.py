"""What --metrics-config says: which families of latencies there are, and which quantiles."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...ipc.errors import InvalidArgumentError
from .quantiles import Target

_SWITCHES = ("counter_latencies", "histogram_latencies", "summary_latencies")

_DEFAULT_QUANTILES = (
    Target(0.5, 0.05),
    Target(0.9, 0.01),
    Target(0.95, 0.001),
    Target(0.99, 0.001),
    Target(0.999, 0.001),
)


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which families there are. Without `counter_latencies` no counter of requests counts."""

    counter_latencies: bool = True
    histogram_latencies: bool = False
    summary_latencies: bool = False
    quantiles: tuple[Target, ...] = _DEFAULT_QUANTILES


def parse_metrics_config(texts: Iterable[str]) -> MetricsConfig:
    """Read the values of `--metrics-config`. Raises InvalidArgumentError for a wrong one."""
    fields: dict[str, object] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in _SWITCHES:
            if value not in ("true", "false"):
                raise _wrong(text, "true or false")
            fields[name] = value == "true"
        elif name == "summary_quantiles":
            fields["quantiles"] = tuple(_target(text, pair) for pair in value.split(","))
        else:
            raise InvalidArgumentError(
                f"--metrics-config={text} names an unknown setting: expected "
                f"{', '.join(_SWITCHES)} or summary_quantiles"
            )
    return msgspec.convert(fields, MetricsConfig)


def _target(text: str, pair: str) -> Target:
    quantile, _, error = pair.partition(":")
    try:
        target = Target(float(quantile), float(error))
    except ValueError:
        target = Target(-1.0, -1.0)
    if not (0 < target.quantile < 1 and 0 < target.error < 1):
        raise _wrong(text, "<quantile>:<error>,… with numbers between 0 and 1, as 0.5:0.05")
    return target


def _wrong(text: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"--metrics-config={text}: expected {expected}")
