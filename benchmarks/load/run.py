"""Measure this server under load, beside the real Triton, and print what each request costs.

Both servers serve the same models at the same time; only one is driven at a time, in turns
(A B A B), so that whatever else the machine does meets both. On a shared machine the ratios and
the CPU time per request hold; the throughput says as much about the neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any, NoReturn

import analyzer
import generator
import inprocess
import rival
from measurement import Driver, Load, LoadError, Measurement, Scenario, mean, measure
from servers import Launch, Server, ServerError, own_launch, triton_launch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from record import machine, write

_BENCHMARKS = Path(__file__).resolve().parents[1]
_SHARED = [_BENCHMARKS / "models" / "shared"]
_OWN = [
    *_SHARED,
    _BENCHMARKS / "models" / "own",
    _BENCHMARKS.parent / "examples" / "model_repository",
]

_DEFAULT = ["grpcio"]

#: How long ONNX Runtime is measured alone.
_ALONE_S = 3.0

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("python-http-16", "identity_python", "http", 16, shared=True),
        Scenario("python-http-1", "identity_python", "http", 1, shared=True),
        Scenario("python-grpc-16", "identity_python", "grpc", 16, shared=True),
        Scenario("python-grpc-1", "identity_python", "grpc", 1, shared=True),
        Scenario("identity-http-16", "identity_backend", "http", 16),
        Scenario("identity-grpc-16", "identity_backend", "grpc", 16),
        Scenario("digits-http-16", "digits", "http", 16),
        Scenario("digits-http-1", "digits", "http", 1),
        Scenario("digits-grpc-16", "digits", "grpc", 16),
        Scenario("sleep-16", "sleep_16", "http", 64, shared=True, ideal_per_s=1600.0),
        Scenario("sleep-64", "sleep_64", "http", 64, shared=True, ideal_per_s=6400.0),
        Scenario("cnn-http-32", "cnn", "http", 32, in_process=True),
        Scenario("cnn-http-64", "cnn", "http", 64, in_process=True),
        Scenario("sleep-64-128", "sleep_64", "http", 128, shared=True, ideal_per_s=6400.0),
    )
}


def main() -> int:
    """Measure the chosen scenarios; returns the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _leave)
    scenarios = [SCENARIOS[name] for name in arguments.scenario or SCENARIOS]
    try:
        drive = _driver(arguments)
        launches = _launches(arguments)
        results = _measure_all(scenarios, launches, drive, arguments.rounds)
    except (rival.MissingError, ServerError, LoadError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.record and results:
        write("load", {"machine": machine(), "arguments": sys.argv[1:], "scenarios": results})
    return 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by the context managers, which end the servers."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog=f"scenarios: {', '.join(SCENARIOS)}",
    )
    parser.add_argument(
        "--scenario", action="append", choices=sorted(SCENARIOS), help="repeatable; default: all"
    )
    parser.add_argument("--rounds", type=int, default=2, help="turns of each server (default 2)")
    parser.add_argument("--window", type=float, default=2.0, help="seconds a window (default 2)")
    parser.add_argument("--server", choices=("both", "tritonpy", "triton"), default="both")
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
    parser.add_argument(
        "--record", action="store_true", help="write the results beside RESULTS.md and into it"
    )
    return parser.parse_args()


def _driver(arguments: argparse.Namespace) -> Driver:
    if arguments.driver != "own":
        try:
            program = rival.perf_analyzer(rival.cache_folder(arguments.cache))
        except rival.MissingError as error:
            if arguments.driver == "perf_analyzer":
                raise
            print(f"Without perf_analyzer, so HTTP only: {error}\n", file=sys.stderr)
        else:
            return lambda server, scenario: analyzer.drive(
                program,
                server.address(scenario.protocol),
                scenario.protocol,
                scenario.model,
                scenario.concurrency,
                arguments.window,
                scenario.shapes,
            )
    return lambda server, scenario: _drive_http(server, scenario, arguments.window)


def _drive_http(server: Server, scenario: Scenario, window_s: float) -> Load:
    if scenario.protocol != "http":
        raise LoadError("only perf_analyzer speaks gRPC")
    return generator.drive(
        server.address("http"), scenario.model, scenario.concurrency, window_s, scenario.shapes
    )


def _launches(arguments: argparse.Namespace) -> list[Launch]:
    launches: list[Launch] = []
    if arguments.server != "triton":
        launches += [own_launch(_OWN, transport) for transport in arguments.transport or _DEFAULT]
    if arguments.server != "tritonpy":
        try:
            triton = rival.triton(rival.cache_folder(arguments.cache))
        except rival.MissingError as error:
            if arguments.server == "triton":
                raise
            print(f"Without the real Triton: {error}\n", file=sys.stderr)
        else:
            launches.append(triton_launch(triton, _SHARED))
    return launches


def _measure_all(
    scenarios: Sequence[Scenario], launches: Sequence[Launch], drive: Driver, rounds: int
) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        servers = [
            stack.enter_context(Server(launch, folder / f"{launch.name}.log"))
            for launch in launches
        ]
        for server in servers:
            server.settle()
        for scenario in scenarios:
            turns = [
                server for server in servers if scenario.shared or server.launch.name != "triton"
            ]
            alone: list[float] = []
            try:
                measured = _in_turns(scenario, turns, drive, rounds, alone)
            except (ServerError, LoadError) as error:
                print(f"\n{scenario.name}: skipped: {error}", flush=True)
                continue
            if measured:
                _print(scenario, measured, alone)
                results.append({**asdict(scenario), "servers": measured, "alone_per_s": alone})
    return results


def _in_turns(
    scenario: Scenario, servers: Sequence[Server], drive: Driver, rounds: int, alone: list[float]
) -> dict[str, list[dict[str, Any]]]:
    """Measure each server once a round; `alone` is given what ONNX Runtime does without one."""
    for server in servers:
        server.await_model(scenario.model)
    measured: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for server in servers:
            found = measure(server, scenario, drive)
            measured.setdefault(server.launch.name, []).append(asdict(found))
            if scenario.in_process:
                model = _BENCHMARKS / "models" / "own" / scenario.model / "1" / "model.onnx"
                batch = max(1, round(found.requests_per_execution))
                alone.append(inprocess.images_per_s(model, batch, _ALONE_S))
    return measured


def _print(
    scenario: Scenario, measured: dict[str, list[dict[str, Any]]], alone: Sequence[float]
) -> None:
    print(f"\n{scenario.name}: {scenario.model}, {scenario.concurrency} in flight", flush=True)
    print(f"{'':16}{'infer/s':>10}{'p50 µs':>10}{'p99 µs':>10}{'CPU ms/1000':>13}{'batch':>7}")
    means: dict[str, Measurement] = {}
    for name, rounds in measured.items():
        each = [Measurement(**entry) for entry in rounds]
        means[name] = mean(each)
        for entry in each:
            _print_line(name, entry)
    for name, entry in means.items():
        _print_line(f"mean {name}", entry)
    if scenario.ideal_per_s:
        for name, entry in means.items():
            part = entry.infer_per_s / scenario.ideal_per_s
            print(f"{name}: {part:.0%} of the ideal, {scenario.ideal_per_s:.0f}/s", flush=True)
    if alone:
        part = next(iter(means.values())).infer_per_s / fmean(alone)
        print(f"{part:.0%} of ONNX Runtime in a loop, {fmean(alone):.0f}/s", flush=True)
    other = means.get("triton")
    for name, own in means.items():
        if other is not None and own is not other:
            print(
                f"{f'ratio {name}':16}{own.infer_per_s / other.infer_per_s:>10.2f}"
                f"{own.p50_us / other.p50_us:>10.2f}{own.p99_us / other.p99_us:>10.2f}"
                f"{own.cpu_ms_per_1000 / other.cpu_ms_per_1000:>13.2f}",
                flush=True,
            )


def _print_line(name: str, entry: Measurement) -> None:
    print(
        f"{name:16}{entry.infer_per_s:>10.0f}{entry.p50_us:>10.0f}{entry.p99_us:>10.0f}"
        f"{entry.cpu_ms_per_1000:>13.1f}{entry.requests_per_execution:>7.1f}"
        f"{'' if entry.whole_tree else '   (a process came or went)'}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
