"""One server with a model that is asked all the time, and culprits that are loaded by each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import models
from support.clients import eventually
from support.culprits import (
    EXECUTION,
    MEMORY,
    STREAM,
    culprit,
    loaded,
    unharmed_bystander,
)
from support.servers import RunningServer, serving

ENSEMBLE = """
    platform: "ensemble"
    input [ { name: "IN" data_type: TYPE_STRING dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
    ensemble_scheduling {
      step [ {
        model_name: "inside" model_version: -1
        input_map { key: "IN" value: "IN" }
        output_map { key: "OUT" value: "OUT" }
      } ]
    }
"""

#: What the supervisor may grow by, over all tests of a file (bytes).
_GROWTH = 48 << 20


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server serves, and tests add to."""
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    """In the end it has no more descriptors and not much more memory than in the beginning."""
    models.python_identity(repository, "bystander")
    for name in ("once", "inside"):
        culprit(repository, name, limits=[EXECUTION])
    culprit(repository, "greedy", limits=[MEMORY])
    culprit(repository, "twin", more="instance_group { count: 2 kind: KIND_CPU }")
    culprit(
        repository,
        "stream",
        STREAM,
        limits=[EXECUTION],
        more="model_transaction_policy { decoupled: true }",
    )
    patient = "sequence_batching { max_sequence_idle_microseconds: 60000000 }"
    culprit(repository, "sequence", batch=1, limits=[EXECUTION], more=patient)
    models.write(repository / "outside" / "config.pbtxt", ENSEMBLE)
    (repository / "outside" / "1").mkdir()
    arguments = ["--model-control-mode=explicit", "--load-model=bystander"]
    with serving(repository, arguments=arguments) as running:
        supervisor = psutil.Process(running.process.pid)
        with loaded(running, "once"):  # what is used for the first time is there from now on
            pass
        files, memory = supervisor.num_fds(), supervisor.memory_info().rss
        yield running
        eventually(lambda: supervisor.num_fds() <= files, "the supervisor's descriptors")
        assert supervisor.memory_info().rss - memory < _GROWTH


@pytest.fixture(autouse=True)
def bystander(server: RunningServer) -> Iterator[None]:
    """Whatever a test does, the bystander answers."""
    with unharmed_bystander(server):
        yield
