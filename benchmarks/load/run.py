"""Measure this server under load, beside the real Triton and mosec, and print what requests cost.

All servers serve the same models at the same time; only one is driven at a time, in turns
(A B A B), so that whatever else the machine does meets all. On a shared machine the ratios and
the CPU time per request hold; the throughput says as much about the neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, NoReturn

import analyzer
import blocking
import figures
import generator
import inprocess
import lifetimes
import rival
from figures import kind_of
from measurement import MIB, Driver, Goal, Load, LoadError, Scenario, measure
from scenarios import SCENARIOS
from servers import (
    Launch,
    Server,
    ServerError,
    mosec_launch,
    own_launch,
    server_of,
    triton_launch,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from record import machine, table, write

_BENCHMARKS = Path(__file__).resolve().parents[1]
_SHARED = [_BENCHMARKS / "models" / "shared"]
OWN_MODELS = [
    *_SHARED,
    _BENCHMARKS / "models" / "own",
    _BENCHMARKS.parent / "examples" / "model_repository",
]
_SERVERS = ("tritonpy", "triton", "mosec")

#: How long ONNX Runtime is measured alone.
_ALONE_S = 3.0

#: Measured by servers of their own: the function, and the goals.
_LIFETIMES: dict[str, tuple[Callable[..., dict[str, float]], Sequence[Goal]]] = {
    "load-python": (lifetimes.load_ms, [Goal("load_ms", 0.3)]),
    "idle-memory": (
        lifetimes.idle_memory,
        [Goal("supervisor_rss_mib", 85, "limit"), Goal("worker_uss_mib", 30, "limit")],
    ),
}

Rounds = dict[str, list[dict[str, float]]]


def main() -> int:
    """Measure the chosen scenarios; returns the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _leave)
    names = arguments.scenario or [*SCENARIOS, *_LIFETIMES]
    try:
        launchers = _launchers(arguments)
        results = _under_load(names, launchers, arguments)
        for name in names:
            if name in _LIFETIMES:
                results += _lifetime(name, launchers, arguments.rounds)
    except (rival.MissingError, ServerError, LoadError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    goals = figures.goals(results)
    if len(goals) > 1:
        print("\n" + table(goals))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
    if arguments.record and results:
        write("load", {"machine": machine(), "arguments": sys.argv[1:], "scenarios": results})
    return 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by the context managers, which end the servers."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    names = [*SCENARIOS, *_LIFETIMES]
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog=f"scenarios: {', '.join(names)}",
    )
    parser.add_argument(
        "--scenario", action="append", choices=sorted(names), help="repeatable; default: all"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server (default 3)")
    parser.add_argument("--window", type=float, default=2.0, help="seconds a window (default 2)")
    parser.add_argument(
        "--server", action="append", choices=_SERVERS, help="repeatable; default: all that exist"
    )
    parser.add_argument(
        "--transport",
        action="append",
        choices=("grpcio", "lean"),
        help="the transport of gRPC in this server; repeatable, for one server each "
        "(default grpcio)",
    )
    parser.add_argument(
        "--driver",
        choices=("auto", "perf_analyzer", "own"),
        default="auto",
        help="auto: perf_analyzer, or the generator of this folder where it cannot be had",
    )
    parser.add_argument(
        "--cache", help=f"where fetched programs lie (default {rival.DEFAULT_CACHE})"
    )
    parser.add_argument("--json", help="write every round to this file too")
    parser.add_argument(
        "--record", action="store_true", help="write the results beside RESULTS.md and into it"
    )
    return parser.parse_args()


# --- who makes load, and who serves ---------------------------------------------------------------


def driver(arguments: argparse.Namespace) -> Driver:
    """What makes load: the arguments are `driver`, `cache` and `window`. Raises MissingError."""
    program: rival.Program | None = None
    if arguments.driver != "own":
        try:
            program = rival.perf_analyzer(rival.cache_folder(arguments.cache))
        except rival.MissingError as error:
            if arguments.driver == "perf_analyzer":
                raise
            print(f"Without perf_analyzer, so HTTP only: {error}\n", file=sys.stderr)

    def drive(server: Server, scenario: Scenario) -> Load:
        if program is None or scenario.own_driver:
            return _drive_http(server, scenario, arguments.window)
        return analyzer.drive(
            program,
            server.address(scenario.protocol),
            scenario.protocol,
            scenario.model_of(server.launch.name),
            scenario.concurrency,
            arguments.window,
            scenario.shapes,
            scenario.payload,
            scenario.mib * MIB,
        )

    return drive


def _drive_http(server: Server, scenario: Scenario, window_s: float) -> Load:
    if scenario.protocol != "http" or scenario.payload == "shm":
        raise LoadError("only perf_analyzer speaks gRPC and uses shared memory")
    address = server.address("http")
    model = scenario.model_of(server.launch.name)
    if server.launch.name == "mosec":
        count = math.prod(next(iter(scenario.shapes.values()), (16,)))
        request = generator.mosec_request(address, f"/{model}", count)
        return generator.drive_with(address, request, scenario.concurrency, window_s)
    return generator.drive(
        address, model, scenario.concurrency, window_s, scenario.shapes, scenario.payload
    )


def _launchers(arguments: argparse.Namespace) -> dict[str, lifetimes.Launcher]:
    """How each server that can be had is started."""
    wanted = arguments.server or _SERVERS
    cache = rival.cache_folder(arguments.cache)
    found: dict[str, lifetimes.Launcher] = {}
    if "tritonpy" in wanted:
        for transport in arguments.transport or ["grpcio"]:
            name = "tritonpy" if transport == "grpcio" else f"tritonpy-{transport}"
            found[name] = partial(_launch_ours, name, f"--grpc-transport={transport}")
    if "triton" in wanted:
        with _unless_missing("the real Triton", arguments):
            triton = rival.triton(cache)
            found["triton"] = lambda folders, more: triton_launch(triton, folders, *more)
    if "mosec" in wanted:
        with _unless_missing("mosec", arguments):
            python = rival.mosec(cache)
            found["mosec"] = lambda _folders, _more: mosec_launch(python)
    return found


def _launch_ours(name: str, transport: str, folders: Sequence[Path], more: Sequence[str]) -> Launch:
    return replace(own_launch(folders, transport, *more), name=name)


@contextlib.contextmanager
def _unless_missing(what: str, arguments: argparse.Namespace) -> Any:
    try:
        yield
    except rival.MissingError as error:
        if arguments.server:
            raise
        print(f"Without {what}: {error}\n", file=sys.stderr)


def _launches(launchers: Mapping[str, lifetimes.Launcher]) -> list[Launch]:
    return [
        launcher(OWN_MODELS if kind_of(name) == "tritonpy" else _SHARED, [])
        for name, launcher in launchers.items()
    ]


# --- measuring ------------------------------------------------------------------------------------


def _under_load(
    names: Sequence[str],
    launchers: Mapping[str, lifetimes.Launcher],
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    scenarios = [SCENARIOS[name] for name in names if name in SCENARIOS]
    results: list[dict[str, Any]] = []
    if not scenarios:
        return results
    drive = driver(arguments)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        servers = [
            stack.enter_context(server_of(launch, folder / f"{launch.name}.log"))
            for launch in _launches(launchers)
            if any(kind_of(launch.name) in scenario.servers for scenario in scenarios)
        ]
        for server in servers:
            server.settle()
        for scenario in scenarios:
            turns = [
                server for server in servers if kind_of(server.launch.name) in scenario.servers
            ]
            beside: dict[str, list[float]] = {}
            measured = _in_turns(scenario, turns, drive, arguments, beside)
            if measured:
                results.append(
                    {"ideal_per_s": 0.0, **asdict(scenario), "servers": measured, "beside": beside}
                )
                _print(results[-1])
    return results


def _in_turns(
    scenario: Scenario,
    servers: Sequence[Server],
    drive: Driver,
    arguments: argparse.Namespace,
    beside: dict[str, list[float]],
) -> Rounds:
    """Measure each server once a round, and after it what stands beside: ONNX Runtime, the echo."""
    measured: Rounds = {}
    failed: set[str] = set()
    for _ in range(arguments.rounds):
        for server in servers:
            name = server.launch.name
            if name in failed:
                continue
            try:
                server.await_model(scenario.model_of(name))
                found = measure(server, scenario, drive)
            except (ServerError, LoadError) as error:
                print(f"\n{scenario.name}: {name} is left out: {error}", flush=True)
                failed.add(name)
                measured.pop(name, None)
                continue
            measured.setdefault(name, []).append(asdict(found))
            if scenario.in_process and kind_of(name) == "tritonpy":
                model = _BENCHMARKS / "models" / "own" / scenario.model / "1" / "model.onnx"
                batch = max(1, round(found.requests_per_execution))
                beside.setdefault("alone", []).append(
                    inprocess.images_per_s(model, batch, _ALONE_S)
                )
        if scenario.echo and measured:
            beside.setdefault("echo", []).append(_echo_mb_per_s(scenario, arguments.window))
    return measured


def _echo_mb_per_s(scenario: Scenario, window_s: float) -> float:
    """What a bare echo of the scenario's tensor reaches."""
    size = scenario.mib * MIB
    with blocking.echo(size) as address:
        latencies, _ = blocking.drive(
            address, bytes(size), scenario.concurrency, window_s, bare=True
        )
    return len(latencies) / window_s * size / 1e6


def _lifetime(
    name: str, launchers: Mapping[str, lifetimes.Launcher], rounds: int
) -> list[dict[str, Any]]:
    measure_once, goals = _LIFETIMES[name]
    measured: Rounds = {}
    failed: set[str] = set()
    for _ in range(rounds):
        for server, launcher in launchers.items():
            if server == "mosec" or server in failed:
                continue
            try:
                measured.setdefault(server, []).append(measure_once(launcher, _SHARED[0]))
            except ServerError as error:
                print(f"\n{name}: {server} is left out: {error}", flush=True)
                failed.add(server)
                measured.pop(server, None)
    if not measured:
        return []
    result = {"name": name, "servers": measured, "beside": {}, "goals": list(map(asdict, goals))}
    _print(result)
    return [result]


def _print(result: Mapping[str, Any]) -> None:
    print("\n" + table(figures.lines([result])), end="")
    for what, measured in result["beside"].items():
        print(f"{figures.BESIDE[what]}: {median(measured):.0f}")
    torn = [
        name
        for name, rounds in result["servers"].items()
        if not all(entry.get("whole_tree", True) for entry in rounds)
    ]
    if torn:
        print(f"a process of {', '.join(torn)} came or went: its CPU time is not whole")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
