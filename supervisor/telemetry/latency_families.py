"""The families of how latencies are distributed: a histogram and seven summaries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from .exposition import Labels, bound, header, sample
from .latencies import (
    FIRST_RESPONSE,
    PARTS,
    HistogramSnapshot,
    LatencySnapshot,
    Part,
    SummarySnapshot,
)

Shown = Sequence[tuple[Labels, LatencySnapshot]]

_FIRST_RESPONSE_HELP = "Milliseconds until the first response of a decoupled model"
_SUMMARY_HELP: dict[Part, str] = {
    "request": "Microseconds from end to end, of requests that succeeded",
    "queue": "Microseconds that requests waited for an instance",
    "compute_input": "Microseconds spent on preparing inputs",
    "compute_infer": "Microseconds spent in the model itself",
    "compute_output": "Microseconds spent on handing over outputs",
    "cache_hit": "Microseconds spent on look-ups that found an answer",
    "cache_miss": "Microseconds spent on look-ups that found nothing",
}


def latency_families(shown: Shown) -> Iterator[str]:
    """The lines of those families that some version has.

    Two generations of one version are one series; its quantiles are those of the newer one.
    """
    histograms: dict[Labels, HistogramSnapshot] = {}
    for labels, latencies in shown:
        if latencies.first_response is not None:
            earlier = histograms.get(labels)
            histograms[labels] = _joined(earlier, latencies.first_response)
    if histograms:
        yield from header(FIRST_RESPONSE, "histogram", _FIRST_RESPONSE_HELP)
        for labels, histogram in histograms.items():
            yield from _histogram(labels, histogram)
    for part in PARTS:
        summaries: dict[Labels, SummarySnapshot] = {}
        for labels, latencies in shown:
            summary = latencies.summaries.get(part)
            if summary is not None:
                summaries[labels] = _added(summaries.get(labels), summary)
        if summaries:
            name = _summary_name(part)
            yield from header(name, "summary", _SUMMARY_HELP[part])
            for labels, summary in summaries.items():
                yield from _summary(name, labels, summary)


def _summary_name(part: Part) -> str:
    if part in ("cache_hit", "cache_miss"):
        return f"nv_{part}_summary_per_model"
    return f"nv_inference_{part}_summary_us"


def _histogram(labels: Labels, histogram: HistogramSnapshot) -> Iterator[str]:
    yield sample(f"{FIRST_RESPONSE}_count", labels, sum(histogram.counts))
    yield sample(f"{FIRST_RESPONSE}_sum", labels, histogram.total)
    bounds = [*map(bound, histogram.bounds), "+Inf"]
    for limit, count in zip(bounds, itertools.accumulate(histogram.counts), strict=True):
        yield sample(f"{FIRST_RESPONSE}_bucket", (*labels, ("le", limit)), count)


def _summary(name: str, labels: Labels, summary: SummarySnapshot) -> Iterator[str]:
    yield sample(f"{name}_count", labels, summary.count)
    yield sample(f"{name}_sum", labels, summary.total)
    for quantile, value in summary.quantiles:
        yield sample(name, (*labels, ("quantile", bound(quantile))), value)


def _joined(earlier: HistogramSnapshot | None, later: HistogramSnapshot) -> HistogramSnapshot:
    if earlier is None or earlier.bounds != later.bounds:
        return later
    counts = tuple(a + b for a, b in zip(earlier.counts, later.counts, strict=True))
    return HistogramSnapshot(later.bounds, counts, earlier.total + later.total)


def _added(earlier: SummarySnapshot | None, later: SummarySnapshot) -> SummarySnapshot:
    if earlier is None:
        return later
    return SummarySnapshot(
        earlier.count + later.count, earlier.total + later.total, later.quantiles
    )
