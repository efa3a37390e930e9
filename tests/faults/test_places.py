"""A worker that dies in a stream, a sequence, a step of an ensemble, or beside another instance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.clients import eventually
from support.culprits import ask, is_ready, loaded, refusal, stream, told
from support.servers import RunningServer
from tritonclient.utils import InferenceServerException

#: Each of them waits for a model to hang, to be found out, and to come back.
pytestmark = pytest.mark.slow

#: What is done, and how its end is told: {} is the instance.
DEADLY = {
    "segfault": "the worker of model instance '{}' was killed by signal SIGSEGV",
    "leave": "the worker of model instance '{}' exited with status 3",
    "wait": (
        "the worker of model instance '{}' was killed: a request has taken longer than the 3 "
        "seconds of execution_timeout_secs"
    ),
    "flood": (
        "the worker of model instance '{}' was killed: a request has taken longer than the 3 "
        "seconds of execution_timeout_secs"
    ),
}


@pytest.mark.parametrize("deed", DEADLY)
def test_a_stream_that_breaks_off_keeps_what_came_and_ends_with_the_reason(
    server: RunningServer, deed: str
) -> None:
    with loaded(server, "stream"):
        responses, message = stream(server, "stream", deed)

        # What the process had no time to write to its socket is lost with it.
        assert responses <= 2 if deed in ("segfault", "leave") else responses == 2
        reason = DEADLY[deed].format("stream_0")
        assert message == f"the request to model 'stream' was lost: {reason}"
        eventually(lambda: is_ready(server, "stream"), "the model comes back")
        assert stream(server, "stream") == (3, "")


@pytest.mark.parametrize("deed", DEADLY)
def test_a_sequence_ends_and_is_told_so_until_it_begins_anew(
    server: RunningServer, deed: str
) -> None:
    with loaded(server, "sequence"):
        assert ask(server, "sequence", sequence_id=7, sequence_start=True) == "nothing"

        message = refusal(server, "sequence", deed, sequence_id=7)

        assert DEADLY[deed].format("sequence_0") in message
        eventually(lambda: is_ready(server, "sequence"), "the model comes back")
        message = refusal(server, "sequence", "nothing", sequence_id=7)
        assert message.startswith("503 ")
        assert DEADLY[deed].format("sequence_0") in message
        assert ask(server, "sequence", sequence_id=7, sequence_start=True) == "nothing"


@pytest.mark.parametrize("deed", DEADLY)
def test_a_step_that_dies_fails_its_ensemble_alone(server: RunningServer, deed: str) -> None:
    with loaded(server, "outside"):
        message = refusal(server, "outside", deed)

        reason = DEADLY[deed].format("inside_0")
        assert message.startswith("503 in ensemble 'outside', ")
        assert reason in message
        eventually(lambda: is_ready(server, "outside"), "the ensemble comes back")
        assert ask(server, "outside") == "nothing"


def test_another_instance_answers_while_one_is_dead(server: RunningServer) -> None:
    def outcome(number: int) -> str:
        deed = "leave" if number == 5 else f"number {number}"
        try:
            return ask(server, "twin", deed)
        except InferenceServerException as error:
            return told(error)

    with loaded(server, "twin"), ThreadPoolExecutor(4) as pool:
        before = {worker.pid for worker in server.workers("twin")}
        outcomes = list(pool.map(outcome, range(60)))

        lost = "503 the request to model 'twin' was lost: the worker of model instance 'twin_"
        assert outcomes[5].startswith(lost)
        for number, answer in enumerate(outcomes):
            assert answer == f"number {number}" or answer.startswith(lost)
        assert sum(answer.startswith(lost) for answer in outcomes) <= 2
        assert is_ready(server, "twin")
        eventually(lambda: len(server.workers("twin")) == 2, "the other one comes back")
        assert len(before & {worker.pid for worker in server.workers("twin")}) == 1


def test_a_blocked_instance_without_a_limit_leaves_the_other_one_to_serve(
    server: RunningServer,
) -> None:
    with loaded(server, "twin"), ThreadPoolExecutor(1) as pool:
        before = server.workers("twin")
        blocked = pool.submit(refusal, server, "twin", "wait_with_the_gil")

        for number in range(20):
            assert ask(server, "twin", f"number {number}") == f"number {number}"
        assert not blocked.done()
        assert is_ready(server, "twin")
        # Nobody else will end it, and it does not say which of the two it is.
        for worker in before:
            worker.kill()

        message = blocked.result(60)
        assert message.startswith("503 the request to model 'twin' was lost: ")
        assert message.endswith("was killed by signal SIGKILL")
