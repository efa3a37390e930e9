"""A server that is asked nonsense, and what must hold afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import settings
from support import models
from support.clients import get, post_json
from support.servers import RunningServer, serving
from support.transports import option

#: How many questions each test asks; thousands by hand, few in every run.
EXAMPLES = int(os.environ.get("TRITONPY_FUZZ_EXAMPLES", "150"))

#: The caches of a process that has seen everything once still breathe a little; a leak of one
#: kilobyte a question would pass this at 10,000 questions.
_MOST_GROWTH_BYTES = 24 * 1024 * 1024

settings.register_profile(
    "fuzz", max_examples=EXAMPLES, derandomize=True, deadline=None, database=None
)


@pytest.fixture(scope="session")
def transport() -> str:
    """The transport of gRPC where it makes no difference."""
    return "grpcio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "numbers", dims=(4,))
    models.identity(repository, "batches", dims=(-1,), max_batch_size=4)
    models.identity(repository, "texts", "TYPE_STRING", dims=(-1,))
    models.python_identity(repository, "python", dims=(4,))
    models.square(repository, "square")
    with serving(repository, arguments=[option(transport)]) as running:
        yield running


def _is_right(server: RunningServer) -> bool:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}
    answer = post_json(server, "/v2/models/numbers/infer", {"inputs": [tensor]})
    return bool(answer.status == 200 and answer.json["outputs"][0]["data"] == [1, 2, 3, 4])


def _memory(server: RunningServer) -> int:
    processes = [psutil.Process(server.process.pid), *server.workers()]
    return sum(int(process.memory_info().rss) for process in processes)


@contextmanager
def _unharmed(server: RunningServer) -> Iterator[None]:
    workers = {worker.pid for worker in server.workers()}
    yield
    assert {worker.pid for worker in server.workers()} == workers
    assert "Traceback" not in server.log, server.log
    assert get(server, "/v2/health/ready").status == 200
    assert _is_right(server)


@pytest.fixture
def ask_nonsense(server: RunningServer) -> Callable[[Callable[[], None]], None]:
    """Run a generator of questions twice: the second time nothing may be new, nor grow."""

    def run(generator: Callable[[], None]) -> None:
        with _unharmed(server):
            generator()
            before = _memory(server)
            generator()
            growth = _memory(server) - before
        assert growth < _MOST_GROWTH_BYTES, f"{growth} bytes more after the same questions"

    return run
