"""What the benchmarks make of their rounds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.load import figures
else:
    sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks" / "load"))
    import figures


def result(ours: list[float], theirs: list[float], **more: Any) -> dict[str, Any]:
    """A scenario with one figure."""
    rounds = {
        name: [{"cpu_ms_per_1000": value} for value in values]
        for name, values in (("tritonpy", ours), ("triton", theirs))
    }
    return {"name": "s", "servers": rounds, "beside": {}, "goals": [], "ideal_per_s": 0.0, **more}


def goal(figure: str, limit: float, against: str = "triton") -> dict[str, Any]:
    return {"figure": figure, "limit": limit, "against": against}


def test_a_figure_is_the_median_with_how_far_rounds_are_off() -> None:
    assert figures.middle([{"p50_us": 90}, {"p50_us": 100}, {"p50_us": 400}], "p50_us") == 100
    assert figures.with_spread([{"p50_us": 90.0}, {"p50_us": 100.0}], "p50_us") == "95 ±5%"


def test_a_table_has_the_figures_that_were_measured_and_the_ratio() -> None:
    head, ours, theirs, ratio = figures.lines([result([10.0, 30.0, 20.0], [40.0])])
    assert head == ["scenario", "server", "CPU", "batch"]
    assert ours == ["s", "tritonpy", "20.0 ±50%", ""]
    assert theirs == ["", "triton", "40.0 ±0%", ""]
    assert ratio == ["", "ratio", "0.50", ""]


def test_less_of_a_cost_and_more_of_a_rate_meet_a_goal() -> None:
    costs = result([20.0], [40.0], goals=[goal("cpu_ms_per_1000", 0.5), goal("p50_us", 0.5)])
    assert figures.goals([costs])[1:] == [
        ["s", "CPU", "tritonpy", "20.0", "triton", "40.0", "0.50", "≤ 0.5", "met"]
    ]
    costs["goals"] = [goal("cpu_ms_per_1000", 0.4)]
    assert figures.goals([costs])[1][-1] == "missed"
    rates = {
        "name": "r",
        "servers": {"tritonpy": [{"infer_per_s": 90.0}]},
        "beside": {"alone": [100.0, 100.0]},
        "ideal_per_s": 95.0,
        "goals": [goal("infer_per_s", 0.9, "alone"), goal("infer_per_s", 0.96, "ideal")],
    }
    assert [row[-1] for row in figures.goals([rates])[1:]] == ["met", "missed"]


def test_a_goal_may_be_absolute_and_is_left_out_where_nothing_was_measured() -> None:
    memory = {
        "name": "m",
        "servers": {"tritonpy": [{"worker_uss_mib": 31.0}]},
        "beside": {},
        "goals": [goal("worker_uss_mib", 30, "limit"), goal("worker_uss_mib", 0.5, "triton")],
    }
    assert figures.goals([memory])[1:] == [
        ["m", "USS MiB", "tritonpy", "31.0", "–", "", "", "≤ 30", "missed"]
    ]


def test_each_of_our_servers_has_its_own_ratio_and_goals() -> None:
    found = result([10.0], [40.0], goals=[goal("cpu_ms_per_1000", 0.5)])
    found["servers"]["tritonpy-lean"] = [{"cpu_ms_per_1000": 30.0}]
    assert [row[1:3] for row in figures.lines([found])[-2:]] == [
        ["ratio tritonpy", "0.25"],
        ["ratio tritonpy-lean", "0.75"],
    ]
    assert [(row[2], row[-1]) for row in figures.goals([found])[1:]] == [
        ("tritonpy", "met"),
        ("tritonpy-lean", "missed"),
    ]
