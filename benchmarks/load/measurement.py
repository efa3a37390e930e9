"""One measurement: a scenario driven against one server, and what it cost that server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from servers import Server


class LoadError(Exception):
    """Raised when load cannot be made or a request is refused."""


@dataclass(frozen=True)
class Load:
    """What a driver saw: requests per second and percentiles of their latency."""

    infer_per_s: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Scenario:
    """A model, the protocol to ask it over, and how many requests are in flight at a time.

    `shapes` names what the model's configuration leaves open. The real Triton serves the scenario
    too when `shared`. `ideal_per_s` is what a server would reach that costs nothing, 0 where nobody
    can say. `in_process` is whether ONNX Runtime alone is measured beside the server, with batches
    of the size that the server made.
    """

    name: str
    model: str
    protocol: str
    concurrency: int
    shared: bool = False
    ideal_per_s: float = 0.0
    in_process: bool = False
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])


#: Drives a server with a scenario for about one window.
Driver = Callable[[Server, Scenario], Load]


@dataclass(frozen=True)
class Measurement:
    """One round. The CPU time is that of the server's whole process tree.

    It is divided by all requests that the server answered between the two looks at its clock, the
    warm-up of the driver among them. `whole_tree` is false when a process came or went meanwhile:
    the time of one that is gone is lost.
    """

    server: str
    infer_per_s: float
    p50_us: float
    p99_us: float
    cpu_ms_per_1000: float
    requests: int
    requests_per_execution: float
    whole_tree: bool


def measure(server: Server, scenario: Scenario, drive: Driver) -> Measurement:
    """Drive a server once. Raises LoadError."""
    answered, executed = server.requests(scenario.model), server.executions(scenario.model)
    cpu_before, processes_before = server.cpu_seconds()
    load = drive(server, scenario)
    cpu_after, processes_after = server.cpu_seconds()
    requests = server.requests(scenario.model) - answered
    executions = server.executions(scenario.model) - executed
    if not requests or not executions:
        raise LoadError(f"{server.launch.name} counts no request to '{scenario.model}'")
    return Measurement(
        server=server.launch.name,
        infer_per_s=load.infer_per_s,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        cpu_ms_per_1000=(cpu_after - cpu_before) * 1e6 / requests,
        requests=requests,
        requests_per_execution=requests / executions,
        whole_tree=processes_before == processes_after,
    )


def mean(rounds: Sequence[Measurement]) -> Measurement:
    """The rounds of one server as one: means, and the sum of the requests."""
    return Measurement(
        server=rounds[0].server,
        infer_per_s=fmean(each.infer_per_s for each in rounds),
        p50_us=fmean(each.p50_us for each in rounds),
        p99_us=fmean(each.p99_us for each in rounds),
        cpu_ms_per_1000=fmean(each.cpu_ms_per_1000 for each in rounds),
        requests=sum(each.requests for each in rounds),
        requests_per_execution=fmean(each.requests_per_execution for each in rounds),
        whole_tree=all(each.whole_tree for each in rounds),
    )
