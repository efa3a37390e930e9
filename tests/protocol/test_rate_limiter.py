"""Models that share a resource take turns; without the rate limiter nobody waits for anybody."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient
from support import models
from support.clients import TIMEOUT, ask, eventually, index, metrics, statistics, unharmed
from support.servers import RunningServer, serving

#: Notes when it begins and ends, and is busy for a while.
BUSY = """
    import os
    import time
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            start = time.monotonic_ns()
            while time.monotonic_ns() - start < 5_000_000:
                pass
            with open({record!r}, "a") as file:
                file.write(f"{{start}} {{time.monotonic_ns()}} {name}\\n")
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(r, "IN").as_numpy())]
                )
                for r in requests
            ]
"""

#: Kills itself when it is asked for 13, and waits at the gate when it is asked for 7.
MORTAL = """
    import os
    import signal
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                (value,) = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                print("runs", value, flush=True)
                if value == 7:
                    open({gate!r}).close()
                if value == 13:
                    os.kill(os.getpid(), signal.SIGKILL)
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(r, "IN").as_numpy())]
                )
                for r in requests
            ]
"""

ON = "--rate-limit=execution_count"


def needs(count: int, *, everywhere: bool = True, priority: int = 1, name: str = "R") -> str:
    """An instance group that needs so much of a resource to run."""
    return f"""
        instance_group {{ kind: KIND_CPU rate_limiter {{
          resources {{ name: "{name}" global: {str(everywhere).lower()} count: {count} }}
          priority: {priority}
        }} }}
    """


def busy(repository: Path, name: str, record: Path, group: str) -> None:
    config = models.identity_config("TYPE_INT32", more=group)
    models.python_model(repository, name, BUSY.format(record=str(record), name=name), config)


def infer(server: RunningServer, model: str, value: int = 1) -> None:
    tensor = httpclient.InferInput("IN", [1], "INT32")
    tensor.set_data_from_numpy(np.array([value], np.int32))
    with httpclient.InferenceServerClient(server.http, network_timeout=60) as client:
        out = client.infer(model, [tensor]).as_numpy("OUT")
    assert out is not None
    assert out.tolist() == [value]


def infer_all(server: RunningServer, *names: str, each: int = 12) -> None:
    """Ask all models at once, by several clients each."""

    def several(model: str) -> None:
        for _ in range(each // 3):
            infer(server, model)

    with ThreadPoolExecutor(3 * len(names)) as pool:
        list(pool.map(several, names * 3))


def executions(record: Path) -> list[tuple[int, int, str]]:
    """When each execution began and ended, and whose it was, in order."""
    lines = (line.split() for line in record.read_text().splitlines())
    return sorted((int(start), int(end), name) for start, end, name in lines)


def overlaps(ran: list[tuple[int, int, str]]) -> list[tuple[str, str]]:
    """Executions of two models that were under way at the same time."""
    return [
        (one[2], other[2])
        for one, other in itertools.combinations(ran, 2)
        if other[0] < one[1] and one[2] != other[2]
    ]


def test_two_models_that_need_the_same_global_resource_never_run_at_the_same_time(
    tmp_path: Path,
) -> None:
    record = tmp_path / "record"
    for name in ("one", "two"):
        busy(tmp_path / "models", name, record, needs(4))
    with serving(tmp_path / "models", arguments=[ON]) as server, unharmed(server):
        infer_all(server, "one", "two")
        assert "| rate_limit                       | EXEC_COUNT" in server.log
        assert statistics(server, "one")["inference_count"] == 12
    ran = executions(record)
    assert len(ran) == 24
    assert overlaps(ran) == []


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def repository(tmp_path: Path, gate: Path) -> Path:
    """Two models that need the same resource, and can be stopped and killed at will."""
    os.mkfifo(gate)
    for name in ("one", "two"):
        config = models.identity_config("TYPE_INT32", more=needs(1))
        code = MORTAL.format(gate=str(gate))
        models.python_model(tmp_path / "models", name, code, config)
    return tmp_path / "models"


@pytest.fixture
def mortal(repository: Path) -> Iterator[RunningServer]:
    """A server of these models, with the rate limiter."""
    arguments = [ON, "--model-control-mode=explicit", "--load-model=*"]
    with serving(repository, arguments=arguments) as running:
        yield running


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ([ON, "--rate-limit-resource=R:2"], ["EXEC_COUNT", '"name":"R", "count":2 "device":-1']),
        (["--rate-limit-resource=R:1"], ["OFF"]),
    ],
    ids=["enough", "off"],
)
def test_with_enough_of_the_resource_or_without_the_limiter_they_run_side_by_side(
    repository: Path, gate: Path, arguments: list[str], rows: list[str]
) -> None:
    with serving(repository, arguments=arguments) as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer, server, "one", 7)
        server.wait_for_line("runs 7")
        infer(server, "two", 1)
        assert not running.done()
        with gate.open("w"):
            pass
        running.result(TIMEOUT)
        for row in rows:
            assert row in server.log


def test_a_worker_that_dies_leaves_its_resources_to_the_others(mortal: RunningServer) -> None:
    with pytest.raises(httpclient.InferenceServerException):
        infer(mortal, "one", 13)
    infer(mortal, "two", 1)
    eventually(lambda: index(mortal)["one", "1"][0] == "READY", "one is up again")
    infer(mortal, "one", 2)


def test_a_model_that_waits_is_unloaded_and_one_that_was_unloaded_needs_nothing(
    mortal: RunningServer, gate: Path
) -> None:
    pending = 'nv_inference_pending_request_count{model="two",version="1"}'
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(infer, mortal, "one", 7)
        mortal.wait_for_line("runs 7")
        waiting = pool.submit(infer, mortal, "two", 8)
        eventually(lambda: metrics(mortal)[pending] == 1, "the other model waits")
        assert "runs 8" not in mortal.log
        assert ask(mortal, "POST", "/v2/repository/models/one/unload").status == 200
        with gate.open("w"):
            pass
        running.result(TIMEOUT)
        waiting.result(TIMEOUT)
    infer(mortal, "two", 9)


def test_what_could_never_run_is_refused(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    busy(repository, "greedy", tmp_path / "record", needs(4))
    busy(repository, "local", tmp_path / "record", needs(1, everywhere=False, name="T"))
    busy(repository, "shared", tmp_path / "record", needs(1, name="T"))
    busy(repository, "unnamed", tmp_path / "record", needs(1, name="S"))
    arguments = [ON, "--rate-limit-resource=R:2", "--rate-limit-resource=T:5"]
    with serving(repository, arguments=arguments) as server:
        states = index(server)
    limited = (
        'Invalid argument: Resource count for "{}" is limited to {} which will prevent scheduling '
        "of one or more model instances, the minimum required count is {}"
    )
    assert states["greedy", "1"] == ("UNAVAILABLE", limited.format("R", 2, 4))
    assert states["unnamed", "1"] == ("UNAVAILABLE", limited.format("S", 0, 1))
    # Whichever of the two came first is served.
    assert {states[name, "1"] for name in ("local", "shared")} == {
        ("READY", ""),
        (
            "UNAVAILABLE",
            'Invalid argument: Resource "T" is present as both global and device-specific resource '
            "in the model configuration.",
        ),
    }
