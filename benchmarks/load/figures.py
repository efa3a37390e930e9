"""Rounds as medians with their spread, and figures beside their goals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median
from typing import Any

#: By the name of a figure its heading, its digits, and whether more of it is better.
FIGURES: dict[str, tuple[str, int, bool]] = {
    "infer_per_s": ("infer/s", 0, True),
    "p50_us": ("p50 µs", 0, False),
    "p99_us": ("p99 µs", 0, False),
    "cpu_ms_per_1000": ("CPU", 1, False),
    "mb_per_s": ("MB/s", 0, True),
    "load_ms": ("load ms", 0, False),
    "supervisor_rss_mib": ("RSS MiB", 1, False),
    "worker_uss_mib": ("USS MiB", 1, False),
}

#: What is measured beside a scenario's servers.
BESIDE = {"limit": "–", "ideal": "the ideal", "alone": "ONNX Runtime alone", "echo": "a bare echo"}

Scenarios = Sequence[Mapping[str, Any]]


def kind_of(server: str) -> str:
    """Which program a server is: there may be several of ours, by their transports."""
    return server.partition("-")[0]


def middle(rounds: Sequence[Mapping[str, float]], figure: str) -> float:
    """The median of a figure; 0 where it was not measured."""
    return median(entry.get(figure, 0.0) for entry in rounds)


def with_spread(rounds: Sequence[Mapping[str, float]], figure: str) -> str:
    """The median, and how far from it the rounds lie at most."""
    found = middle(rounds, figure)
    if not found:
        return ""
    off = max(abs(entry.get(figure, 0.0) - found) for entry in rounds) / found
    return f"{found:.{FIGURES[figure][1]}f} ±{off:.0%}"


def columns(scenarios: Scenarios) -> list[str]:
    """The figures that any of the scenarios has."""
    return [
        figure
        for figure in FIGURES
        if any(
            middle(rounds, figure)
            for scenario in scenarios
            for rounds in scenario["servers"].values()
        )
    ]


def lines(scenarios: Scenarios) -> list[list[str]]:
    """A table of medians: a line for each scenario and server, and one of ours over Triton's."""
    shown = columns(scenarios)
    found = [["scenario", "server", *(FIGURES[figure][0] for figure in shown), "batch"]]
    for scenario in scenarios:
        label = scenario["name"]
        servers = scenario["servers"]
        for server, rounds in servers.items():
            batch = middle(rounds, "requests_per_execution")
            cells = [with_spread(rounds, figure) for figure in shown]
            found.append([label, server, *cells, f"{batch:.1f}" if batch else ""])
            label = ""
        ours = [server for server in servers if kind_of(server) == "tritonpy"]
        for server in ours if "triton" in servers else []:
            ratios = [ratio(servers[server], servers["triton"], figure) for figure in shown]
            of = "ratio" if len(ours) == 1 else f"ratio {server}"
            found.append(["", of, *(f"{one:.2f}" if one else "" for one in ratios), ""])
    return found


def ratio(
    ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], figure: str
) -> float:
    """Our median over another's; 0 where there is no such figure."""
    other = middle(theirs, figure)
    return middle(ours, figure) / other if other else 0.0


def goals(scenarios: Scenarios) -> list[list[str]]:
    """A table of the goals and what has become of them."""
    found = [["scenario", "figure", "server", "has", "against", "theirs", "ratio", "goal", "is"]]
    for scenario in scenarios:
        ours = [server for server in scenario["servers"] if kind_of(server) == "tritonpy"]
        for server, goal in product(ours, scenario["goals"]):
            figure, limit, against = goal["figure"], goal["limit"], goal["against"]
            theirs = _others(scenario, against, figure)
            if not theirs:
                continue
            heading, digits, more = FIGURES[figure]
            mine = middle(scenario["servers"][server], figure)
            part = mine / theirs
            met = part >= limit if more else part <= limit
            found.append(
                [
                    scenario["name"],
                    heading,
                    server,
                    f"{mine:.{digits}f}",
                    BESIDE.get(against, against),
                    "" if against == "limit" else f"{theirs:.{digits}f}",
                    "" if against == "limit" else f"{part:.2f}",
                    f"{'≥' if more else '≤'} {limit:g}",
                    "met" if met else "missed",
                ]
            )
    return found


def _others(scenario: Mapping[str, Any], against: str, figure: str) -> float:
    """What ours is compared with; 0 where it was not measured. "limit" is an absolute goal."""
    if against == "limit":
        return 1.0
    if against == "ideal":
        return float(scenario["ideal_per_s"])
    if against in BESIDE:
        measured = scenario["beside"].get(against, [])
        return median(measured) if measured else 0.0
    rounds = scenario["servers"].get(against, [])
    return middle(rounds, figure) if rounds else 0.0
