"""One measurement: a scenario driven against one server, and what it cost that server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from servers import Server

MIB = 1 << 20

Payload = Literal["binary", "json", "shm"]


class LoadError(Exception):
    """Raised when load cannot be made or a request is refused."""


@dataclass(frozen=True)
class Load:
    """What a driver saw: requests per second and percentiles of their latency.

    `requests` is how many it had answered in all, its warm-up among them; 0 where it does not say.
    """

    infer_per_s: float
    p50_us: float
    p99_us: float
    requests: int = 0


@dataclass(frozen=True)
class Goal:
    """A figure of ours and the most, or for rates the least, that it may be of another's.

    `against` is a server, or what is measured beside: "ideal", "alone" or "echo".
    """

    figure: str
    limit: float
    against: str = "triton"


@dataclass(frozen=True)
class Scenario:
    """A model, the protocol to ask it over, and how many requests are in flight at a time.

    `servers` are those that serve it, and `models` the names that others than this one have for the
    model. `shapes` names what the model's configuration leaves open. `mib` is the size of the
    tensor, 0 where its throughput in bytes is of no interest. `payload` is how tensors travel: as
    binary data, in JSON, or in system shared memory. `own_driver` is whether the generator of this
    folder makes the load. `ideal_per_s` is what a server would reach that costs nothing, 0 where
    nobody can say. `in_process` is whether ONNX Runtime alone is measured beside the server, with
    batches of the size that the server made; `echo` whether a bare echo of the bytes is.
    """

    name: str
    model: str
    protocol: str
    concurrency: int
    servers: Sequence[str] = ("tritonpy", "triton")
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    mib: int = 0
    payload: Payload = "binary"
    own_driver: bool = False
    ideal_per_s: float = 0.0
    in_process: bool = False
    echo: bool = False
    goals: Sequence[Goal] = ()

    def model_of(self, server: str) -> str:
        """What a server calls the model."""
        return self.models.get(server, self.model)


#: Drives a server with a scenario for about one window.
Driver = Callable[[Server, Scenario], Load]


@dataclass(frozen=True)
class Measurement:
    """One round. The CPU time is that of the server's whole process tree.

    It is divided by all requests that the server answered between the two looks at its clock, the
    warm-up of the driver among them. `whole_tree` is false when a process came or went meanwhile:
    the time of one that is gone is lost.
    """

    infer_per_s: float
    p50_us: float
    p99_us: float
    cpu_ms_per_1000: float
    mb_per_s: float
    requests: int
    requests_per_execution: float
    whole_tree: bool


def measure(server: Server, scenario: Scenario, drive: Driver) -> Measurement:
    """Drive a server once. Raises LoadError."""
    model = scenario.model_of(server.launch.name)
    answered, executed = server.requests(model), server.executions(model)
    cpu_before, processes_before = server.cpu_seconds()
    load = drive(server, scenario)
    cpu_after, processes_after = server.cpu_seconds()
    requests = load.requests or server.requests(model) - answered
    executions = server.executions(model) - executed
    if not requests:
        raise LoadError(f"{server.launch.name} counts no request to '{model}'")
    return Measurement(
        infer_per_s=load.infer_per_s,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        cpu_ms_per_1000=(cpu_after - cpu_before) * 1e6 / requests,
        mb_per_s=load.infer_per_s * scenario.mib * MIB / 1e6,
        requests=requests,
        requests_per_execution=requests / executions if executions else 0.0,
        whole_tree=processes_before == processes_after,
    )
