"""One model instance with a real worker: load, execute, crash, start again, stop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from support.fakes import ARENA_BYTES, SOON, Asker, fp32, identity_request, recipe
from support.models import write

from tritonpy.ipc import messages
from tritonpy.ipc.errors import InternalError, InvalidArgumentError, StatusError
from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Tensor
from tritonpy.supervisor.config.worker_limits import WorkerLimits
from tritonpy.supervisor.memory.buffers import InputArena
from tritonpy.supervisor.request import InferRequest
from tritonpy.supervisor.scheduling.scheduler import Work
from tritonpy.supervisor.workers.instance import Instance
from tritonpy.supervisor.workers.oversight import Oversight
from tritonpy.supervisor.workers.process import Surroundings
from tritonpy.supervisor.workers.restarts import RestartPolicy
from tritonpy.supervisor.workers.states import WorkerState

pytestmark = pytest.mark.anyio

IDENTITY = json.dumps(
    {
        "name": "m",
        "backend": "identity",
        "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
        "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
    }
)
PYTHON = IDENTITY.replace('"identity"', '"python"')

#: Restarts at once, gives up at the third failure.
IMPATIENT = RestartPolicy(first_delay=0.001, give_up_after=3)

ECHO = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())]
                )
                for request in requests
            ]
"""

#: The first execution waits until somebody opens the gate.
GATED = ECHO.replace(
    "def execute(self, requests):",
    """def initialize(self, args):
            self.waits = True

        def execute(self, requests):
            if self.waits:
                open({gate!r}).close()
                self.waits = False""",
)


class FakeOwner:
    """A pool that only takes notes."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.ready = 0
        self.freed = self.waits = 0
        self.lost: list[tuple[WorkerState, list[Work], str]] = []
        self.unbegun: list[Work] = []
        self.batches: list[list[Work]] = []
        self.times: list[int] = []

    def instance_ready(self, instance: Instance) -> None:
        self.ready += 1
        self.changed.set()

    def instance_freed(self, instance: Instance) -> None:
        self.freed += 1
        self.changed.set()

    def instance_waits(self, instance: Instance) -> None:
        self.waits += 1

    def instance_lost(
        self, instance: Instance, orphans: list[Work], unbegun: list[Work], reason: str
    ) -> None:
        self.lost.append((instance.state, orphans, reason))
        self.unbegun += unbegun
        self.changed.set()

    def responded(self, work: Work, message: messages.Responded) -> None:
        self.changed.set()

    def executed(self, batch: Sequence[Work], message: messages.Executed) -> None:
        self.batches.append(list(batch))
        self.times = [
            message.start_ns,
            message.input_end_ns,
            message.output_start_ns,
            message.end_ns,
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Bench:
    """Makes instances and ends them."""

    def __init__(self, surroundings: Surroundings, path: Path) -> None:
        self.surroundings = surroundings
        self.path = path
        self.owner = FakeOwner()
        self.asker = Asker()
        self.inputs = InputArena(1, ARENA_BYTES, "test")
        self.made: list[Instance] = []

    def instance(self, **more: object) -> Instance:
        """An instance of model `m` in the test's folder."""
        directory = str(self.path / "m")
        made = Instance(
            self.surroundings,
            recipe(
                self.inputs,
                files=messages.ModelFiles("m", 1, directory, f"{directory}/1"),
                environment=dict(os.environ),
                **more,  # type: ignore[arg-type]
            ),
            self.owner,
        )
        self.made.append(made)
        return made

    def python(self, code: str, **more: object) -> Instance:
        """An instance of a python model with this code."""
        write(self.path / "m" / "1" / "model.py", code)
        return self.instance(**more)

    async def loaded(self, instance: Instance, config: str = IDENTITY) -> Instance:
        """Load it."""
        async with asyncio.timeout(SOON):
            await instance.start()
            await instance.load_model(config)
        return instance

    async def close(self) -> None:
        for instance in self.made:
            await instance.stop(SOON)
        self.inputs.close()


@pytest.fixture
async def bench(surroundings: Surroundings, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(surroundings, tmp_path)
    yield made
    await made.close()
    # The answers' memory goes with the last view of it, before descriptors are counted.
    made.asker.responses.clear()
    made.asker.finals.clear()
    gc.collect()


def state(instance: Instance) -> WorkerState:
    """Its state now: to a type checker an attribute that was looked at stays as it was."""
    return instance.state


async def killed(bench: Bench, instance: Instance, after: WorkerState) -> None:
    """Kill the worker, and wait until the instance knows."""
    lost = len(bench.owner.lost)
    assert instance.pid is not None
    os.kill(instance.pid, signal.SIGKILL)
    await bench.owner.until(lambda: len(bench.owner.lost) > lost)
    assert bench.owner.lost[-1][0] is after


# --- a life without trouble -------------------------------------------------------------------


async def test_a_model_is_described_loaded_asked_and_finalized(bench: Bench) -> None:
    instance = bench.instance()
    assert state(instance) is WorkerState.BACKOFF
    assert instance.pid is None
    await instance.start()
    assert state(instance) is WorkerState.LOADING
    described = await instance.describe(IDENTITY)
    assert json.loads(described)["backend"] == "identity"
    await instance.load_model(described)
    assert state(instance) is WorkerState.READY
    assert bench.owner.ready == 1
    assert instance.pure

    work = bench.asker.work(id="r1")
    instance.execute([work])
    assert (instance.load, instance.open_requests) == (1, 1)
    (response,) = await bench.asker.answers(1)

    assert (response.model, response.version, response.id) == ("m", 1, "r1")
    assert response.final
    assert [tensor.name for tensor in response.outputs] == ["OUTPUT0"]
    assert response.outputs[0].data == fp32("INPUT0").data
    assert response.parameters["param1"] == 42
    assert (instance.load, instance.open_requests) == (0, 0)
    assert bench.owner.freed == 1
    assert bench.owner.batches == [[work]]
    assert bench.owner.times == sorted(bench.owner.times)

    assert await instance.stop(SOON) is True
    assert state(instance) is WorkerState.EXITED
    assert bench.owner.lost == [(WorkerState.EXITED, [], "the model was unloaded")]


async def test_large_tensors_travel_in_shared_memory_and_it_is_given_back(bench: Bench) -> None:
    instance = await bench.loaded(bench.instance())
    count = INLINE_LIMIT_BYTES
    data = np.arange(count, dtype=np.float32)
    # Ten times what the output arena holds: it is only enough when it comes back.
    for number in range(10 * ARENA_BYTES // data.nbytes):
        lease = bench.inputs.lease(data.nbytes)
        lease.write(0, data.data.cast("B"))
        tensor = Tensor("INPUT0", "FP32", (count,), lease.span(0, data.nbytes))
        instance.execute([bench.asker.work(InferRequest("m", None, [tensor]))])
        await bench.asker.answers(1)
        (response,) = bench.asker.responses
        output = response.outputs[0].data
        assert isinstance(output, memoryview)
        assert output == data.data.cast("B"), f"answer {number}"
        lease.release()
        del response, output  # the last views of it
        bench.asker.responses.clear()
        bench.asker.finals.clear()


async def test_a_view_outlives_the_worker_that_wrote_it(bench: Bench) -> None:
    instance = await bench.loaded(bench.instance())
    data = np.arange(INLINE_LIMIT_BYTES, dtype=np.float32)
    tensor = Tensor("INPUT0", "FP32", data.shape, data.data.cast("B"))
    instance.execute([bench.asker.work(InferRequest("m", None, [tensor]))])
    (response,) = await bench.asker.answers(1)

    await killed(bench, instance, WorkerState.BACKOFF)

    assert response.outputs[0].data == data.data.cast("B")
    await bench.owner.until(lambda: bench.owner.ready == 2)


async def test_the_requests_of_a_batch_are_answered_each_by_itself(bench: Bench) -> None:
    instance = await bench.loaded(bench.instance())

    instance.execute([bench.asker.work(id=name) for name in "abc"])

    assert [response.id for response in await bench.asker.answers(3)] == ["a", "b", "c"]


async def test_what_cannot_be_encoded_is_refused_and_leaves_no_trace(bench: Bench) -> None:
    instance = await bench.loaded(bench.instance())
    request = identity_request()
    request.parameters["too long for any integer"] = 2**70

    with pytest.raises(OverflowError):
        instance.execute([bench.asker.work(request)])

    assert (instance.load, instance.open_requests) == (0, 0)
    instance.execute([bench.asker.work()])
    await bench.asker.answers(1)


async def test_what_was_sent_ahead_can_be_had_back_while_the_worker_is_busy(
    bench: Bench, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    instance = await bench.loaded(bench.python(GATED.format(gate=str(gate))), PYTHON)
    running, ahead, last = (bench.asker.work(id=name) for name in ("running", "ahead", "last"))
    instance.execute([running])
    instance.execute([ahead], ahead=True)
    assert instance.is_ahead(ahead)
    assert not instance.is_ahead(running)
    assert instance.requests_ahead == 1

    assert instance.take_back() == [ahead]
    assert instance.take_back() == ()
    assert (instance.load, instance.open_requests) == (1, 1)
    instance.execute([last], ahead=True)
    await asyncio.to_thread(lambda: gate.open("w").close())

    assert [response.id for response in await bench.asker.answers(2)] == ["running", "last"]
    assert (instance.load, instance.open_requests) == (0, 0)


async def test_what_was_sent_ahead_has_its_time_from_when_it_begins(
    bench: Bench, tmp_path: Path
) -> None:
    """The first request waits until the test opens the gate, the second one for ever."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = ECHO.replace(
        "def execute(self, requests):",
        f"""def execute(self, requests):
            import threading
            if requests[0].request_id() == "stuck":
                threading.Event().wait()
            open({str(gate)!r}).close()""",
    )
    limits = WorkerLimits(execution_secs=2)
    instance = await bench.loaded(bench.python(code, limits=limits), PYTHON)
    held, stuck = bench.asker.work(id="held"), bench.asker.work(id="stuck")
    instance.execute([held])
    instance.execute([stuck], ahead=True)
    await asyncio.to_thread(lambda: gate.open("w").close())
    await bench.asker.answers(1)

    await bench.owner.until(lambda: bool(bench.owner.lost))

    assert bench.owner.lost == [
        (
            WorkerState.BACKOFF,
            [stuck],
            "the worker of model instance 'm_0' was killed: a request has taken longer than the "
            "2 seconds of execution_timeout_secs",
        )
    ]


async def test_behind_what_is_taken_back_the_next_one_has_its_time(bench: Bench) -> None:
    """The supervisor was told that the worker is free, and the worker has begun nothing yet."""

    class Taking:
        """A process of which the older batch is taken back."""

        numbers: ClassVar = [2]

        def take_back(self) -> int | None:
            return self.numbers.pop() if self.numbers else None

    instance = bench.instance()
    back, stays = bench.asker.work(id="back"), bench.asker.work(id="stays")
    oversight = Oversight(WorkerLimits(execution_secs=3600), os.getpid(), print)
    instance._process = Taking()  # type: ignore[assignment] # pyright: ignore
    instance._oversight = oversight  # pyright: ignore[reportPrivateUsage]
    instance._batches = {2: [back], 3: [stays]}  # pyright: ignore[reportPrivateUsage]
    instance._open = {work.key: work for work in (back, stays)}  # pyright: ignore
    oversight.begin(2, [back])

    assert instance.take_back() == [back]

    assert "1 requests in 1 batches" in repr(oversight)
    oversight.stop()
    instance._process = None  # pyright: ignore[reportPrivateUsage]


async def test_a_batch_that_could_not_be_sent_ahead_is_not_had_back(bench: Bench) -> None:
    instance = await bench.loaded(bench.instance())
    request = identity_request()
    request.parameters["too long for any integer"] = 2**70
    with pytest.raises(OverflowError):
        instance.execute([bench.asker.work(request)], ahead=True)

    assert instance.take_back() == ()


async def test_only_a_request_that_is_here_can_be_cancelled(bench: Bench) -> None:
    instance = await bench.loaded(bench.instance())
    work = bench.asker.work()
    assert instance.cancel(work) is False

    instance.execute([work])
    assert instance.cancel(work) is True

    await bench.asker.answers(1)
    assert instance.cancel(work) is False
    instance.trim()


# --- loads that fail --------------------------------------------------------------------------


async def test_a_backend_that_refuses_the_model_says_why(bench: Bench) -> None:
    instance = bench.instance()
    await instance.start()

    with pytest.raises(InvalidArgumentError, match="has no INPUT0"):
        await instance.load_model(IDENTITY.replace("INPUT0", "INPUT1"))

    assert state(instance) is WorkerState.FATAL
    assert "has no INPUT0" in instance.reason
    assert bench.owner.lost == []
    assert await instance.stop(0) is True


async def test_a_worker_that_dies_at_its_first_load_leaves_its_last_words(bench: Bench) -> None:
    instance = bench.python("""
        import os, sys

        class TritonPythonModel:
            def initialize(self, args):
                print("only on standard output")
                print("the licence file is missing", file=sys.stderr)
                os._exit(3)

            def execute(self, requests):
                return []
    """)
    await instance.start()

    with pytest.raises(InternalError) as caught:
        await instance.load_model(PYTHON)

    assert caught.value.message == (
        "the worker of model instance 'm_0' exited with status 3; its last words: "
        "the licence file is missing"
    )
    assert state(instance) is WorkerState.FATAL


async def test_a_worker_that_dies_between_two_questions_answers_the_second_with_its_end(
    bench: Bench,
) -> None:
    instance = bench.instance()
    await instance.start()
    assert instance.pid is not None
    os.kill(instance.pid, signal.SIGKILL)
    async with asyncio.timeout(SOON):
        while state(instance) is not WorkerState.FATAL:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)

    with pytest.raises(InternalError, match="killed by signal SIGKILL"):
        await instance.describe(IDENTITY)
    with pytest.raises(InternalError, match="killed by signal SIGKILL"):
        await instance.load_model(IDENTITY)


async def test_a_worker_that_does_not_start_in_time_is_killed(bench: Bench) -> None:
    instance = bench.instance(start_timeout=0.001)

    with pytest.raises(InternalError, match=r"did not start within 0\.001 seconds"):
        await instance.start()

    assert state(instance) is WorkerState.FATAL


async def test_a_worker_that_the_system_refuses_fails_the_load(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_label: str, _size: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("tritonpy.supervisor.memory.buffers.create_memory", refuse)
    instance = bench.instance()

    with pytest.raises(StatusError, match=r"m_0.* cannot be started: .*Too many open files"):
        await instance.start()

    assert state(instance) is WorkerState.FATAL
    assert os.listdir(bench.surroundings.runtime_directory) == []


# --- crashes ----------------------------------------------------------------------------------


async def test_a_killed_worker_is_replaced_and_its_requests_are_handed_back(bench: Bench) -> None:
    slow = IDENTITY[:-1] + ', "parameters": {"execute_delay_ms": {"string_value": "60000"}}}'
    instance = await bench.loaded(bench.instance(), slow)
    works = [bench.asker.work(id=name) for name in "ab"]
    instance.execute(works)

    await killed(bench, instance, WorkerState.BACKOFF)

    ((_state, orphans, reason),) = bench.owner.lost
    assert orphans == works
    assert reason == "the worker of model instance 'm_0' was killed by signal SIGKILL"
    assert instance.deaths == 1
    await bench.owner.until(lambda: bench.owner.ready == 2)
    assert (instance.load, instance.open_requests) == (0, 0)
    assert instance.reason == ""
    assert instance.pid is not None


async def test_a_worker_that_dies_right_after_its_load_is_replaced_too(bench: Bench) -> None:
    code = (
        ECHO
        + """
        def initialize(self, args):
            import os, threading
            marker = os.path.join(args["model_repository"], "died")
            if not os.path.exists(marker):
                open(marker, "w").close()
                threading.Timer(0, os._exit, (9,)).start()
    """
    )
    instance = bench.python(code)
    await instance.start()
    try:
        await instance.load_model(PYTHON)
    except InternalError:
        assert state(instance) is WorkerState.FATAL  # before it could say so
        return
    await bench.owner.until(lambda: bench.owner.ready == 2)
    assert instance.deaths == 1


async def test_a_crash_loop_ends_with_the_last_words_as_the_reason(bench: Bench) -> None:
    code = (
        ECHO
        + """
        def initialize(self, args):
            import os, sys
            marker = os.path.join(args["model_repository"], "loaded once")
            if os.path.exists(marker):
                print("the disk has gone", file=sys.stderr)
                os._exit(4)
            open(marker, "w").close()
    """
    )
    instance = await bench.loaded(bench.python(code, policy=IMPATIENT), PYTHON)

    await killed(bench, instance, WorkerState.BACKOFF)
    await bench.owner.until(lambda: state(instance) is WorkerState.FATAL)

    assert instance.deaths == 3
    assert [after for after, _orphans, _reason in bench.owner.lost] == [
        WorkerState.BACKOFF,
        WorkerState.BACKOFF,
        WorkerState.FATAL,
    ]
    assert instance.reason.endswith("exited with status 4; its last words: the disk has gone")
    assert await instance.stop(0) is True
    assert state(instance) is WorkerState.FATAL


async def test_a_worker_that_the_system_refuses_later_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await bench.loaded(bench.instance(policy=IMPATIENT))
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nowhere/python")
        await killed(bench, instance, WorkerState.BACKOFF)
        await bench.owner.until(lambda: len(bench.owner.lost) == 2)
    assert "cannot be started" in bench.owner.lost[1][2]

    await bench.owner.until(lambda: bench.owner.ready == 2)


# --- stopping ---------------------------------------------------------------------------------


async def test_a_worker_is_stopped_while_it_starts(bench: Bench) -> None:
    instance = bench.instance()
    starting = asyncio.create_task(instance.start())
    await asyncio.sleep(0)
    assert state(instance) is WorkerState.STARTING
    starting.cancel()

    assert await instance.stop(SOON) is True

    assert state(instance) is WorkerState.EXITED
    with pytest.raises(InternalError, match="was stopped"):
        await instance.load_model(IDENTITY)


async def test_a_model_that_hangs_while_it_loads_is_not_waited_for(bench: Bench) -> None:
    instance = bench.python("""
        import threading

        class TritonPythonModel:
            def initialize(self, args):
                threading.Event().wait()

            def execute(self, requests):
                return []
    """)
    await instance.start()
    loading = asyncio.create_task(instance.load_model(PYTHON))
    await asyncio.sleep(0)
    loading.cancel()

    async with asyncio.timeout(SOON):
        assert await instance.stop(10 * SOON) is True

    assert state(instance) is WorkerState.EXITED


async def test_a_model_that_does_not_finalize_is_killed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        ECHO
        + """
        def finalize(self):
            import threading
            threading.Event().wait()
    """
    )
    instance = await bench.loaded(bench.python(code), PYTHON)

    assert await instance.stop(0.01) is False

    assert state(instance) is WorkerState.EXITED
    assert "did not finalize within 0.01 seconds and is killed" in caplog.text


async def test_stopping_twice_is_stopping_once(bench: Bench) -> None:
    instance = await bench.loaded(bench.instance())

    ends = await asyncio.gather(instance.stop(SOON), instance.stop(SOON))
    assert all(ends)
    assert await instance.stop(SOON) is True


async def test_what_a_stopped_worker_still_had_is_handed_back(bench: Bench) -> None:
    slow = IDENTITY[:-1] + ', "parameters": {"execute_delay_ms": {"string_value": "60000"}}}'
    instance = await bench.loaded(bench.instance(), slow)
    work = bench.asker.work()
    instance.execute([work])

    assert await instance.stop(0.01) is False

    assert bench.owner.lost == [(WorkerState.EXITED, [work], "the model was unloaded")]


async def test_a_worker_that_waits_for_its_restart_is_stopped_at_once(bench: Bench) -> None:
    policy = RestartPolicy(first_delay=1000.0)
    instance = await bench.loaded(bench.instance(policy=policy))
    await killed(bench, instance, WorkerState.BACKOFF)
    await bench.owner.until(lambda: bench.owner.ready == 2)
    await killed(bench, instance, WorkerState.BACKOFF)

    assert await instance.stop(SOON) is True

    assert state(instance) is WorkerState.EXITED
    assert "EXITED" in repr(instance)
