"""Measure what each kind of process costs before it does anything: import time and memory.

Every figure comes from fresh interpreters, started as the server starts its workers; the files are
in the page cache after the first. Times are medians, memory is what the kernel says of the process
once everything is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from record import machine, write

_BACKEND = """
from types import SimpleNamespace as Fake
from tritonpy.worker import main, registry
registry.backend_class({!r}, Fake(name="benchmark", instance=Fake(kind="CPU")))
"""

#: What is measured, and the code that imports it.
PROCESSES: Mapping[str, str] = {
    "python alone": "",
    "supervisor: command line": "import tritonpy.supervisor.cli",
    "supervisor: server": "import tritonpy.supervisor.server",
    "worker: without a backend": "import tritonpy.worker.main",
    **{
        f"worker: {name}": _BACKEND.format(name)
        for name in ("identity", "python", "onnxruntime", "pytorch")
    },
}

_PROBE = """
import sys, time
begin = time.perf_counter()
{code}
import_s = time.perf_counter() - begin
modules = len(sys.modules)
import json
with open("/proc/self/smaps_rollup") as file:
    pairs = [line.split() for line in file if line.endswith("kB\\n")]
memory = {{words[0]: int(words[1]) / 1024 for words in pairs}}
print(json.dumps([import_s, memory["Rss:"], memory["Private_Dirty:"], modules]))
"""


@dataclass(frozen=True)
class Cost:
    """What a process costs: seconds of imports, MiB resident, and MiB of its own among these.

    Its own are the pages that it wrote. Unwritten pages of libraries are left out: whether another
    process happens to share them changes with what else runs.
    """

    what: str
    import_s: float
    rss_mib: float
    private_mib: float
    modules: int


class ImportFailedError(Exception):
    """Raised when what a process imports cannot be imported here."""


def measure(what: str, code: str, repeats: int) -> Cost:
    """Import in fresh interpreters, one after another. Raises ImportFailedError."""
    samples = [json.loads(_python(["-c", _PROBE.format(code=code)]).stdout) for _ in range(repeats)]
    import_s, rss, private, modules = (median(column) for column in zip(*samples, strict=True))
    return Cost(what, import_s, rss, private, int(modules))


def slowest(code: str, count: int) -> list[str]:
    """The modules with the longest import times of their own, as `-X importtime` tells them."""
    told = _python(["-X", "importtime", "-c", code]).stderr.splitlines()
    lines = [line for line in told if line.startswith("import time:") and "|" in line][1:]
    lines.sort(key=lambda line: int(line.split(":")[1].split("|")[0]), reverse=True)
    return lines[:count]


def _python(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImportFailedError(done.stderr.strip().splitlines()[-1])
    return done


def main() -> int:
    """Measure and print every process; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5, help="interpreters each (default 5)")
    parser.add_argument("--slowest", type=int, default=0, help="also list so many slow modules")
    parser.add_argument(
        "--record", action="store_true", help="write the results beside RESULTS.md and into it"
    )
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    print(f"{'':28}{'import s':>10}{'RSS MiB':>10}{'private':>10}{'modules':>10}")
    for what, code in PROCESSES.items():
        try:
            cost = measure(what, code, arguments.repeats)
        except ImportFailedError as error:
            print(f"{what:28}  skipped: {error}", flush=True)
            continue
        results.append(asdict(cost))
        print(
            f"{what:28}{cost.import_s:>10.3f}{cost.rss_mib:>10.1f}{cost.private_mib:>10.1f}"
            f"{cost.modules:>10}",
            flush=True,
        )
        for line in slowest(code, arguments.slowest) if arguments.slowest else ():
            print(f"    {line}")
    if arguments.record:
        write("imports", {"machine": machine(), "arguments": sys.argv[1:], "imports": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
