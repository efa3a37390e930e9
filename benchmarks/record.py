"""Keep what the benchmarks measured: JSON beside RESULTS.md, and RESULTS.md made from it.

Run by itself this file writes RESULTS.md anew from the JSON.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "load"))
import figures

_FOLDER = Path(__file__).resolve().parent
_RESULTS = _FOLDER / "RESULTS.md"
_PACKAGES = ("tritonpy-supervisor", "aiohttp", "grpcio", "msgspec", "numpy", "uvloop")

_LOAD_NOTE = """\
`CPU` is the time of the server's whole process tree per 1000 requests, in milliseconds; `batch`
the requests per execution; MB/s the bytes of the tensor one way. Medians of the rounds, with how
far a round is off at most; the ratio is ours over Triton's, so below 1 is better for CPU, latency
and memory. Throughput depends on the machine and on what else it does (the load generator runs on
the same cores): the CPU time and the ratios are the finding.

What stands in the way of the ideal of `sleep_64` with 64 requests in flight: while one batch runs,
only the others can come, so batches have 32 requests and half of the ideal is the most. A queue
delay that is long enough for full batches (20 ms were tried) gives batches of 64, between which
the instance waits for 64 answers to go out and 64 requests to come in: 14 ms here, at some 110 to
140 µs of CPU time for each on the server's side and more on the client's, and as much with the real
Triton. With 128 in flight that happens while the other batch runs."""

_COPIES_NOTE = """\
What the supervisor copies of one 16 MiB tensor that comes, is computed and goes back, by its own
count: `large_identity` is one model, `large_steps` an ensemble of three."""


def machine() -> dict[str, Any]:
    """What the figures depend on: the machine, its system and the versions of the libraries."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"Linux {platform.release()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def write(name: str, data: Mapping[str, Any]) -> None:
    """Write one benchmark's results as JSON and bring RESULTS.md up to date."""
    path = _path(name)
    path.write_text(json.dumps(data, indent=1) + "\n")
    _RESULTS.write_text(render())
    print(f"\nwrote {path} and {_RESULTS}")


def render() -> str:
    """RESULTS.md, from whatever JSON there is."""
    parts = ["# Results\n\nMade by the benchmarks from the JSON files beside it; do not edit.\n"]
    load, copies, imports = _read("load"), _read("copies"), _read("imports")
    if load:
        parts += ["## Under load\n", _environment(load), _LOAD_NOTE + "\n", _load(load)]
    if copies:
        parts += ["## Copies\n", _environment(copies), _COPIES_NOTE + "\n", _copies(copies)]
    if imports:
        parts += ["## Start-up\n", _environment(imports), _imports(imports)]
    return "\n".join(parts)


def _load(data: Mapping[str, Any]) -> str:
    scenarios = data["scenarios"]
    goals = figures.goals(scenarios)
    parts = [table(goals)] if len(goals) > 1 else []
    parts.append(table(figures.lines(scenarios)))
    rows = [["scenario", "beside", "median"]]
    for scenario in scenarios:
        found = dict(scenario["beside"])
        if scenario.get("ideal_per_s"):
            found["ideal"] = [scenario["ideal_per_s"]]
        for what, measured in found.items():
            rows.append([scenario["name"], figures.BESIDE[what], f"{median(measured):.0f}"])
    return "\n".join([*parts, table(rows)] if len(rows) > 1 else parts)


def _copies(data: Mapping[str, Any]) -> str:
    rows = [
        (entry["model"], entry["protocol"], f"{entry['in_mib']:.2f}", f"{entry['out_mib']:.2f}")
        for entry in data["copies"]
    ]
    return table([("model", "protocol", "MiB in", "MiB out"), *rows])


def _imports(data: Mapping[str, Any]) -> str:
    rows = [
        (
            entry["what"],
            f"{entry['import_s']:.2f}",
            f"{entry['rss_mib']:.0f}",
            f"{entry['private_mib']:.0f}",
            str(entry["modules"]),
        )
        for entry in data["imports"]
    ]
    return table([("process", "import s", "RSS MiB", "private MiB", "modules"), *rows])


def _environment(data: Mapping[str, Any]) -> str:
    found = data["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"{found['date']}, {found['cpu']}, {found['cores']} cores, {found['system']}, "
        f"Python {found['python']}, {packages}.\n"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, readable as it is; the first row is the head."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * (width - 1) + (":" if index else "-") for index, width in enumerate(widths)]
    lines = [
        [cell.ljust(width) if not index else cell.rjust(width) for index, (cell, width) in row]
        for row in (enumerate(zip(cells, widths, strict=True)) for cells in rows)
    ]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _path(name: str) -> Path:
    return _FOLDER / f"RESULTS.{name}.json"


def _read(name: str) -> dict[str, Any] | None:
    path = _path(name)
    return json.loads(path.read_text()) if path.exists() else None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    _RESULTS.write_text(render())
