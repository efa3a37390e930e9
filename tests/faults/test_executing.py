"""What a model does while it executes a request harms nobody but those who asked it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from support.clients import eventually
from support.culprits import ask, is_ready, loaded, refusal, told
from support.servers import RunningServer
from tritonclient.utils import InferenceServerException

#: Each of them waits for a model to hang, to be found out, and to come back.
pytestmark = pytest.mark.slow

DIED = "the worker of model instance '{{}}_0' {}"
LATE = DIED.format(
    "was killed: a request has taken longer than the 3 seconds of execution_timeout_secs"
)
GREEDY = DIED.format(
    r"was killed: it has taken \d+ MiB of memory, more than the 300 MiB of memory_limit_byte_size"
)

DEADLY = {
    "segfault": DIED.format("was killed by signal SIGSEGV"),
    "abort": DIED.format("was killed by signal SIGABRT"),
    "recurse_natively": DIED.format("was killed by signal SIGSEGV"),
    "leave": DIED.format("exited with status 3"),
    "fork_and_leave": DIED.format("exited with status 3"),
    "stop": LATE,
    "wait": LATE,
    "wait_with_the_gil": LATE,
    "spin": LATE,
    "flood": LATE,
    "flood_without_lines": LATE,
    "hoard_memory": GREEDY,
    "hoard_memory_in_children": GREEDY,
}

HARMLESS = {
    "exit": "SystemExit: 3",
    "recurse": "RecursionError: maximum recursion depth exceeded",
    "hoard_files": "OSError: .* Too many open files",
    "want_too_much": "MemoryError: Unable to allocate 3.00 GiB",
}


@pytest.mark.parametrize("deed", DEADLY)
def test_a_deed_that_ends_the_worker_is_told_and_the_model_comes_back(
    server: RunningServer, deed: str
) -> None:
    model = "greedy" if DEADLY[deed] is GREEDY else "once"
    with loaded(server, model):
        (worker,) = server.workers(model)

        message = refusal(server, model, deed)

        expected = f"503 the request to model '{model}' was lost: {DEADLY[deed].format(model)}"
        assert re.fullmatch(expected, message), message
        eventually(lambda: is_ready(server, model), "the model comes back")
        assert ask(server, model) == "nothing"
        assert [one.pid for one in server.workers(model)] != [worker.pid]


@pytest.mark.parametrize("deed", HARMLESS)
def test_a_deed_that_fails_the_request_leaves_the_worker(server: RunningServer, deed: str) -> None:
    with loaded(server, "greedy"):
        workers = server.workers("greedy")

        message = refusal(server, "greedy", deed)

        assert re.search(HARMLESS[deed], message), message
        assert ask(server, "greedy") == "nothing"
        assert server.workers("greedy") == workers


def test_each_of_many_requests_is_answered_once_when_the_worker_dies_among_them(
    server: RunningServer,
) -> None:
    def outcome(number: int) -> str:
        deed = "leave" if number == 7 else f"number {number}"
        try:
            return ask(server, "once", deed)
        except InferenceServerException as error:
            return told(error)

    with loaded(server, "once"), ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(outcome, range(40)))

    lost = f"503 the request to model 'once' was lost: {DEADLY['leave'].format('once')}"
    assert outcomes[7] == lost
    for number, answer in enumerate(outcomes):
        assert answer in (f"number {number}", lost)
    # What was not at the worker waits for the next one.
    assert outcomes.count(lost) <= 2


@pytest.mark.parametrize("deed", ["fork", "fork_and_return"])
def test_what_a_model_forks_ends_with_its_worker(server: RunningServer, deed: str) -> None:
    with loaded(server, "once"):
        assert ask(server, "once", deed) == deed
        (worker,) = server.workers("once")
        children = psutil.Process(worker.pid).children(recursive=True)
        assert len(children) == (4 if deed == "fork" else 1)
        assert ask(server, "once") == "nothing"

        assert "exited with status 3" in refusal(server, "once", "leave")

        assert psutil.wait_procs(children, timeout=20)[1] == []
        eventually(lambda: is_ready(server, "once"), "the model comes back")
        assert ask(server, "once") == "nothing"


def test_the_log_tells_where_a_model_that_took_too_long_was(server: RunningServer) -> None:
    with loaded(server, "once"):
        before = server.log.count("in wait_with_the_gil")

        refusal(server, "once", "wait_with_the_gil")

        eventually(
            lambda: server.log.count("in wait_with_the_gil") > before, "the stack is in the log"
        )
