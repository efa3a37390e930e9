"""Where the microseconds of one scenario go, in the supervisor and in the worker.

    .venv/bin/python benchmarks/load/profile.py python-http-16
    .venv/bin/python benchmarks/load/profile.py 16m-http --out /tmp/profile

Drives this server alone and looks on with py-spy (functions of Python; with --native those of C
too) and with `strace -c` (system calls), one after the other: strace slows the server down. What is
not installed is left out, and said. Writes speedscope files (https://www.speedscope.app).

`Runner.run` is uvloop, with its waiting and its system calls; `--native` takes it apart.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import rival
from measurement import Driver, LoadError, Scenario
from run import OWN_MODELS, driver
from scenarios import SCENARIOS
from servers import Server, ServerError, own_launch

_SHOWN = 25


def main() -> int:
    """Profile one scenario; returns the exit status."""
    arguments = _arguments()
    scenario = SCENARIOS[arguments.scenario]
    out = Path(arguments.out or tempfile.mkdtemp(prefix="profile-"))
    out.mkdir(parents=True, exist_ok=True)
    try:
        drive = driver(arguments)
        launch = own_launch(OWN_MODELS)
        with Server(launch, out / "server.log") as server:
            server.settle()
            server.await_model(scenario.model)
            processes = _processes(server, scenario.model)
            for what, process in processes.items():
                with _load(server, scenario, drive):
                    _functions(what, process.pid, arguments, out)
            for what, process in processes.items():
                with _load(server, scenario, drive):
                    _calls(what, process.pid, arguments.seconds, out)
    except (rival.MissingError, ServerError, LoadError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"\nin {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each look (default 5)")
    parser.add_argument("--native", action="store_true", help="the functions of C too")
    parser.add_argument("--out", help="folder for the profiles (default: a temporary one)")
    parser.add_argument("--driver", choices=("auto", "perf_analyzer", "own"), default="auto")
    parser.add_argument("--cache", help=f"of fetched programs (default {rival.DEFAULT_CACHE})")
    arguments = parser.parse_args()
    arguments.window = arguments.seconds
    return arguments


def _processes(server: Server, model: str) -> dict[str, psutil.Process]:
    """The supervisor, and a worker of the model if it has one of its own."""
    root, *children = server.processes()
    found = {"supervisor": root}
    for child in children:
        command = child.cmdline()
        if "tritonpy.worker" in command and command[-1].startswith(f"{model}_"):
            found["worker"] = child
    return found


@contextlib.contextmanager
def _load(server: Server, scenario: Scenario, drive: Driver) -> Iterator[None]:
    """Load that goes on as long as somebody looks."""
    over = threading.Event()
    failures: list[LoadError] = []

    def run() -> None:
        while not over.is_set():
            try:
                drive(server, scenario)
            except LoadError as error:
                failures.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def _functions(what: str, pid: int, arguments: argparse.Namespace, out: Path) -> None:
    program = shutil.which("py-spy") or shutil.which("py-spy", path=Path(sys.executable).parent)
    if program is None:
        print("without py-spy (pip install py-spy): no functions", file=sys.stderr)
        return
    path = out / f"{what}.speedscope.json"
    command = [program, "record", "--pid", str(pid), "--format", "speedscope", "-o", str(path)]
    command += ["--duration", str(round(arguments.seconds)), "--rate", "500"]
    done = _run([*command, *(["--native"] if arguments.native else [])])
    if not path.exists():
        print(f"py-spy cannot look at the {what}:\n{done.stderr[-1000:]}", file=sys.stderr)
        return
    print(f"\n{what}: {_SHOWN} functions with the most time of their own, of all samples")
    counts = _own_time(json.loads(path.read_text()))
    total = sum(counts.values()) or 1.0
    for name, weight in counts.most_common(_SHOWN):
        print(f"{weight / total:7.1%}  {name}")


def _own_time(profile: dict[str, Any]) -> Counter[str]:
    """The weight of each function of the main thread as the innermost one."""
    frames = profile["shared"]["frames"]
    counts: Counter[str] = Counter()
    for each in profile["profiles"]:
        if "MainThread" not in each["name"]:
            continue
        for stack, weight in zip(each["samples"], each["weights"], strict=True):
            if stack:
                frame = frames[stack[-1]]
                file = Path(frame.get("file") or "").name
                counts[f"{frame['name']} ({file})"] += weight
    return counts


def _calls(what: str, pid: int, seconds: float, out: Path) -> None:
    program, patience = shutil.which("strace"), shutil.which("timeout")
    if program is None or patience is None:
        print("without strace: no system calls", file=sys.stderr)
        return
    path = out / f"{what}.syscalls.txt"
    look = [program, "-c", "-f", "-p", str(pid), "-o", str(path)]
    _run([patience, "--signal=INT", str(seconds), *look])
    if not path.exists() or not path.stat().st_size:
        print(f"strace cannot look at the {what}", file=sys.stderr)
        return
    print(f"\n{what}: system calls within {seconds:g} s")
    print("\n".join(path.read_text().splitlines()[:15]))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
