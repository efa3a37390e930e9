"""What a model does when it is loaded or unloaded harms nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.clients import eventually, post_json
from support.culprits import MEMORY, ask, culprit, loaded, parameter
from support.servers import RunningServer

#: Each of them waits for a model to hang, to be found out, and to come back.
pytestmark = pytest.mark.slow

INITIALIZE = """
    from deeds import do

    class TritonPythonModel:
        def initialize(self, args):
            print("initializes", flush=True)
            do({deed!r})

        def execute(self, requests):
            return [None for request in requests]
"""

FINALIZE = """
    import triton_python_backend_utils as pb_utils
    from deeds import do

    class TritonPythonModel:
        def execute(self, requests):
            names = [pb_utils.get_input_tensor_by_name(r, "IN").as_numpy() for r in requests]
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", n)]) for n in names]

        def finalize(self):
            print("finalizes", flush=True)
            do({deed!r})
"""

LIMITED = parameter("load_timeout_secs", 3)


@pytest.fixture
def unloaded(server: RunningServer) -> Iterator[str]:
    """The name of a model that a test writes; whatever becomes of it, it is unloaded in the end."""
    yield "loading"
    post_json(server, "/v2/repository/models/loading/unload", {})


def load(server: RunningServer, model: str) -> str:
    """Load a model; returns why that failed, or nothing."""
    answer = post_json(server, f"/v2/repository/models/{model}/load", {})
    return "" if answer.status == 200 else f"{answer.status} {answer.error}"


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("segfault", "killed by signal SIGSEGV"),
        ("abort", "killed by signal SIGABRT"),
        ("leave", "exited with status 3"),
        ("exit", "SystemExit: 3"),
        ("recurse", "RecursionError: maximum recursion depth exceeded"),
        ("hoard_memory", r"has taken \d+ MiB of memory, more than the 300 MiB of"),
        ("fork_and_leave", "exited with status 3"),
        ("wait", "it has not loaded its model within the 3 seconds of load_timeout_secs"),
        ("wait_with_the_gil", "not loaded its model within the 3 seconds of load_timeout_secs"),
        ("flood", "it has not loaded its model within the 3 seconds of load_timeout_secs"),
    ],
)
def test_a_model_that_fails_to_load_says_why(
    server: RunningServer, repository: Path, unloaded: str, deed: str, reason: str
) -> None:
    limits = [LIMITED if "seconds" in reason else MEMORY]
    culprit(repository, unloaded, INITIALIZE.format(deed=deed), limits=limits)

    said = load(server, unloaded)

    assert said.startswith("400 ")
    assert re.search(reason, said), said
    eventually(lambda: not server.workers(unloaded), "no process is left")


def test_a_model_that_never_loads_keeps_no_other_from_loading(
    server: RunningServer, repository: Path, unloaded: str
) -> None:
    culprit(repository, unloaded, INITIALIZE.format(deed="wait"))
    begun = server.log.count("initializes")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server, unloaded)
        eventually(lambda: server.log.count("initializes") > begun, "it initializes")
        with loaded(server, "once"):
            assert ask(server, "once") == "nothing"
        assert not loading.done()

        for worker in server.workers(unloaded):
            worker.kill()

        assert loading.result(60).startswith("400 ")


@pytest.mark.parametrize("deed", ["raise_error", "exit", "leave", "segfault"])
def test_a_model_that_fails_to_finalize_is_gone_all_the_same(
    server: RunningServer, repository: Path, unloaded: str, deed: str
) -> None:
    culprit(repository, unloaded, FINALIZE.format(deed=deed))
    assert load(server, unloaded) == ""
    assert ask(server, unloaded) == "nothing"
    begun = server.log.count("finalizes")

    post_json(server, f"/v2/repository/models/{unloaded}/unload", {})

    eventually(lambda: server.log.count("finalizes") > begun, "it is finalized")
    eventually(lambda: not server.workers(unloaded), "no process is left")


def test_a_model_that_never_finalizes_can_be_loaded_again_meanwhile(
    server: RunningServer, repository: Path, unloaded: str
) -> None:
    culprit(repository, unloaded, FINALIZE.format(deed="wait_with_the_gil"))
    assert load(server, unloaded) == ""
    (old,) = server.workers(unloaded)
    begun = server.log.count("finalizes")
    post_json(server, f"/v2/repository/models/{unloaded}/unload", {})
    eventually(lambda: server.log.count("finalizes") > begun, "it is being finalized")

    culprit(repository, unloaded, FINALIZE.format(deed="nothing"))
    assert load(server, unloaded) == ""

    assert ask(server, unloaded) == "nothing"
    assert old in server.workers(unloaded)
    old.kill()
    eventually(lambda: old not in server.workers(unloaded), "it is gone")
    assert ask(server, unloaded) == "nothing"
