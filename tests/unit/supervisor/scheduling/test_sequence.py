"""The sequence scheduler on virtual time, in front of instances that run when the test says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from support.clock import VirtualLoop, run
from support.fakes import Asker, FakeRunner, answer, identity_request

from tritonpy.ipc.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from tritonpy.supervisor.config.defaults import normalise
from tritonpy.supervisor.config.parse import from_text
from tritonpy.supervisor.scheduling import sequence
from tritonpy.supervisor.scheduling.scheduler import Seat, SeatWatcher, Work
from tritonpy.supervisor.scheduling.sequence import SequenceScheduler

MS = 1000
CONTROLS = """
    control_input { name: "S" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
    control_input { name: "E" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }
    control_input { name: "R" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } }
    control_input { name: "C" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT32 } }
"""


@dataclass(eq=False)
class FakeSeat:
    """An instance that executes when the test says so."""

    batches: list[list[Work]] = field(default_factory=list[list[Work]])
    running: list[Work] | None = None

    @property
    def load(self) -> int:
        return int(self.running is not None)


class FakeSeats(FakeRunner):
    """Instances by themselves."""

    watcher: SeatWatcher | None = None

    def is_idle(self, seat: Seat) -> bool:
        return seat.load == 0

    def admits_on(self, seat: Seat) -> bool:
        return self.has_turn

    def run_on(self, seat: Seat, batch: Sequence[Work]) -> None:
        assert isinstance(seat, FakeSeat)
        assert seat.running is None, "it is busy"
        seat.running = list(batch)
        seat.batches.append(list(batch))


class Bench:
    """A scheduler, its instances and somebody who asks."""

    def __init__(self, text: str = "", batch: int = 2, seats: int = 1) -> None:
        block = f"sequence_batching {{ {CONTROLS} {text} }}"
        config = from_text(f'name: "m" max_batch_size: {batch} {block}', "config.pbtxt")
        self.scheduler = SequenceScheduler(normalise(config, []), 1, FakeSeats())
        self.asker = Asker()
        self.seats = [FakeSeat() for _ in range(seats)]
        for seat in self.seats:
            self.scheduler.instance_ready(seat)

    def send(
        self,
        correlation_id: int | str,
        flags: str = "",
        id: str = "",
        timeout_ms: int = 0,
        signature: str = "",
    ) -> Work:
        """Enqueue a request; flags are S for start and E for end."""
        request = identity_request(id=id or f"{correlation_id}{flags}")
        request.correlation_id = correlation_id
        request.flags = ("S" in flags) + 2 * ("E" in flags)
        request.timeout_us = timeout_ms * MS
        request.signature = signature
        work = self.asker.work(request)
        self.scheduler.enqueue(work)
        return work

    async def executes(
        self, seat: int = 0, rescheduled: Sequence[Work] = (), answers: bool = True
    ) -> list[str]:
        """Let everything come to rest, then have what runs be executed; returns its ids."""
        await settled()
        at = self.seats[seat]
        batch = at.running
        assert batch is not None, "nothing runs"
        at.running = None
        self.scheduler.executed(batch, [work.key for work in rescheduled])
        for work in batch:
            if answers and work not in rescheduled:
                answer(work)
        await settled()
        return [work.request.id for work in batch]

    def runs(self, seat: int = 0) -> list[str]:
        """The ids of what runs now."""
        return [work.request.id for work in self.seats[seat].running or ()]

    def errors(self) -> dict[str, Any]:
        """Of each request that failed, the error."""
        return {one.id: one.error for one in self.asker.responses if one.error is not None}


async def settled() -> None:
    """Let everything happen that is to happen now."""
    for _ in range(3):
        await asyncio.sleep(0)


def told(work: Work) -> dict[str, int]:
    """What the model is told beside the client's inputs."""
    assert work.step is not None
    found: dict[str, int] = {}
    for tensor in work.step.controls:
        assert isinstance(tensor.data, memoryview)
        found[tensor.name] = int(np.frombuffer(tensor.data, np.int32)[0])
    return found


Play = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs a test's coroutine on virtual time."""
    loop = VirtualLoop()
    monkeypatch.setattr(sequence, "time", loop)
    return lambda main: run(loop, main)


def test_requests_of_several_sequences_run_together_each_in_its_slot(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=4)
        works = [bench.send(id, "S") for id in (7, 8, 9)]
        assert "3 held" in repr(bench.scheduler)

        assert await bench.executes() == ["7S", "8S", "9S"]

        assert [told(work) for work in works] == [
            {"S": 1, "E": 0, "R": 1, "C": id} for id in (7, 8, 9)
        ]
        assert [work.step and work.step.slot for work in works] == [0, 1, 2]

    play(main())


def test_rows_of_empty_slots_are_filled_up_to_the_highest_that_has_something(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=4)
        for id in (1, 2, 3, 4):
            bench.send(id, "S")
        await bench.executes()

        second, third = bench.send(2), bench.send(3)
        await bench.executes()

        assert second.step is not None
        assert third.step is not None
        assert (second.step.empty_before, third.step.empty_before) == (1, 0)
        assert [tensor.name for tensor in second.step.empty_controls] == ["S", "E", "R", "C"]

    play(main())


def test_oldest_has_no_empty_rows(play: Play) -> None:
    async def main() -> None:
        bench = Bench("oldest { max_candidate_sequences: 3 }", batch=4)
        for id in (1, 2, 3):
            bench.send(id, "S")
        await bench.executes()
        last = bench.send(3)
        await bench.executes()

        assert last.step is not None
        assert (last.step.slot, last.step.empty_before) == (2, 0)

    play(main())


def test_a_sequence_stays_with_its_instance(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0, seats=2)
        bench.send(1, "S")
        bench.send(2, "S")
        await bench.executes(0)
        bench.send(1)
        bench.send(1, "E")
        await settled()
        assert (bench.runs(0), bench.runs(1)) == (["1"], ["2S"])

        assert await bench.executes(0) == ["1"]
        assert await bench.executes(0) == ["1E"]
        assert await bench.executes(1) == ["2S"]

    play(main())


def test_the_end_is_told_and_frees_the_slot_for_who_waits(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0)
        first = bench.send(1, "SE")
        bench.send(2, "S")
        bench.send(3, "S")
        assert (bench.scheduler.queued, bench.scheduler.open_sequences) == (3, 3)

        await bench.executes()

        assert told(first) == {"S": 1, "E": 1, "R": 1, "C": 1}
        assert bench.runs() == ["2S"]

    play(main())


@pytest.mark.parametrize(
    ("correlation_id", "flags", "message"),
    [
        (0, "S", "must specify a non-zero or non-empty correlation ID"),
        ("", "S", "must specify a non-zero or non-empty correlation ID"),
        (4, "", "sequence 4 to model 'm' must specify the START flag on the first request of"),
        ("x", "S", "correlation ID that is a string"),
    ],
)
def test_a_request_that_belongs_to_no_sequence_is_refused(
    play: Play, correlation_id: int | str, flags: str, message: str
) -> None:
    async def main() -> None:
        bench = Bench()
        with pytest.raises(InvalidArgumentError, match=message):
            bench.send(correlation_id, flags)
        assert bench.scheduler.queued == 0

    play(main())


def test_more_than_one_row_is_refused(play: Play) -> None:
    async def main() -> None:
        request = identity_request()
        request.batch_size, request.correlation_id, request.flags = 2, 5, 1
        with pytest.raises(InvalidArgumentError, match="must specify batch-size 1 due to"):
            Bench().scheduler.enqueue(Asker().work(request))

    play(main())


def test_a_start_of_an_active_id_ends_the_old_sequence_with_a_warning(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        bench = Bench()
        bench.send(5, "S")
        with caplog.at_level(logging.WARNING):
            again = bench.send(5, "S")
        await bench.executes()
        await bench.executes()

        assert told(again)["S"] == 1
        assert caplog.messages == [
            "sequence 5 for model 'm' has a conflict. The previous sequence did not end before "
            "this sequence start. Previous sequence will be terminated early."
        ]

    play(main())


def test_direct_waits_for_more_slots_as_long_as_the_delay(play: Play) -> None:
    async def main() -> None:
        bench = Bench(
            "direct { max_queue_delay_microseconds: 5000 minimum_slot_utilization: 1 }", batch=2
        )
        bench.send(1, "S")
        await asyncio.sleep(0.004)
        assert bench.runs() == []
        bench.send(2, "S")
        await settled()
        assert bench.runs() == ["1S", "2S"]
        await bench.executes()
        bench.send(2)
        await asyncio.sleep(0.0051)
        assert bench.runs() == ["2"]

    play(main())


def test_oldest_waits_for_a_preferred_batch(play: Play) -> None:
    async def main() -> None:
        bench = Bench(
            "oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2 ] "
            "max_queue_delay_microseconds: 5000 }",
            batch=4,
        )
        bench.send(1, "S")
        await asyncio.sleep(0.004)
        assert bench.runs() == []
        bench.send(2, "S")
        await settled()
        assert bench.runs() == ["1S", "2S"]

    play(main())


def test_oldest_may_keep_the_order_across_sequences(play: Play) -> None:
    async def main() -> None:
        bench = Bench("oldest { preserve_ordering: true }", batch=0, seats=2)
        bench.send(1, "S")
        bench.send(2, "S")
        await bench.executes(1)
        assert bench.asker.responses == []

        await bench.executes(0)

        assert [response.id for response in bench.asker.responses] == ["1S", "2S"]

    play(main())


def test_shapes_that_differ_run_one_after_the_other(play: Play) -> None:
    async def main() -> None:
        bench = Bench()
        bench.send(1, "S", signature="wide")
        bench.send(2, "S", signature="narrow")

        assert await bench.executes() == ["1S"]
        assert await bench.executes() == ["2S"]

    play(main())


# --- time -----------------------------------------------------------------------------------------


def test_an_idle_sequence_ends_when_its_time_is_over(play: Play) -> None:
    async def main() -> None:
        bench = Bench("max_sequence_idle_microseconds: 20000", batch=0)
        bench.send(1, "S")
        await bench.executes()
        await asyncio.sleep(0.015)
        bench.send(1)
        await bench.executes()
        await asyncio.sleep(0.015)
        bench.send(2, "S")
        await settled()
        assert bench.runs() == []

        await asyncio.sleep(0.0051)

        assert bench.runs() == ["2S"]
        with pytest.raises(InvalidArgumentError, match="START"):
            bench.send(1)

    play(main())


def test_a_slow_execution_is_no_idleness(play: Play) -> None:
    async def main() -> None:
        bench = Bench("max_sequence_idle_microseconds: 20000", batch=0)
        bench.send(1, "S")
        await asyncio.sleep(1.0)
        await bench.executes()
        bench.send(1)

        assert await bench.executes() == ["1"]

    play(main())


def test_a_sequence_waits_for_a_slot_no_longer_than_its_timeout(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0)
        bench.send(1, "S")
        bench.send(2, "S", timeout_ms=10)
        bench.send(2)
        await asyncio.sleep(0.009)
        assert bench.errors() == {}

        await asyncio.sleep(0.0011)

        errors = bench.errors()
        assert sorted(errors) == ["2", "2S"]
        assert isinstance(errors["2"], UnavailableError)
        assert errors["2"].message == (
            "[request id: 2] timeout of the corresponding sequence has been expired"
        )
        assert [reason for _work, _response, reason in bench.asker.finals] == ["REJECTED"] * 2

    play(main())


# --- cancelling, stopping, losing -----------------------------------------------------------------


def test_cancelling_a_request_cancels_what_waits_of_its_sequence(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0)
        first = bench.send(1, "S")
        second = bench.send(1, id="second")
        bench.send(1, id="third")
        bench.send(2, "S")
        await settled()

        assert bench.scheduler.cancel(first) is False

        errors = bench.errors()
        assert sorted(errors) == ["second", "third"]
        assert all(isinstance(error, CancelledError) for error in errors.values())
        assert bench.scheduler.cancel(second) is False
        await bench.executes()
        assert bench.runs() == ["2S"]

    play(main())


def test_cancelling_a_request_that_waits_answers_it(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0)
        bench.send(1, "S")
        await settled()
        second = bench.send(1, id="second")

        assert bench.scheduler.cancel(second) is True

        assert list(bench.errors()) == ["second"]
        with pytest.raises(InvalidArgumentError, match="START"):
            bench.send(1)

    play(main())


def test_while_the_server_stops_sequences_go_on_and_none_begins(play: Play) -> None:
    async def main() -> None:
        bench = Bench()
        bench.send(1, "S")
        bench.scheduler.stop_starting()

        with pytest.raises(UnavailableError, match=r"^Server is stopping, scheduler for model has"):
            bench.send(2, "S")
        bench.send(1, "E")
        await bench.executes()
        assert await bench.executes() == ["1E"]

        assert bench.scheduler.open_sequences == 0

    play(main())


def test_a_lost_instance_ends_its_sequences_and_no_others(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0, seats=2)
        bench.send(1, "S")
        bench.send(2, "S")
        await settled()
        bench.send(1, id="queued")
        bench.scheduler.instance_lost(bench.seats[0], "the worker was killed")
        bench.scheduler.instance_lost(bench.seats[0], "the worker was killed")

        text = "sequence 1 of model 'm' is lost: the worker was killed; begin it anew, with the"
        errors = bench.errors()
        assert list(errors) == ["queued"]
        assert isinstance(errors["queued"], UnavailableError)
        assert errors["queued"].message.startswith(f"[request id: queued] {text}")
        with pytest.raises(UnavailableError, match=text):
            bench.send(1)
        bench.send(2)
        await bench.executes(1)
        assert bench.runs(1) == ["2"]

        bench.scheduler.instance_ready(FakeSeat())
        bench.send(1, "S")
        bench.send(1)

    play(main())


def test_a_request_that_was_lost_is_not_run_again(play: Play) -> None:
    async def main() -> None:
        bench = Bench()
        bench.scheduler.enqueue_first(bench.asker.work(id="x"))
        assert isinstance(bench.errors()["x"], UnavailableError)

    play(main())


def test_everything_that_waits_can_be_failed(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0)
        for id in (1, 2):
            bench.send(id, "S")
        await settled()

        bench.scheduler.fail_queued("the model was unloaded")
        bench.scheduler.close()

        assert {id: error.message for id, error in bench.errors().items()} == {
            "2S": "[request id: 2S] the model was unloaded"
        }
        assert bench.scheduler.open_sequences == 1

    play(main())


# --- iterative sequences --------------------------------------------------------------------------


def test_a_request_without_an_id_is_a_sequence_by_itself(play: Play) -> None:
    async def main() -> None:
        bench = Bench("iterative_sequence: true")
        bench.send(2, "S")
        works = [bench.send(0), bench.send("")]
        await bench.executes()

        assert [work.request.correlation_id for work in works] == [1, 3]
        assert told(works[0]) == {"S": 1, "E": 0, "R": 1, "C": 1}

    play(main())


def test_a_rescheduled_request_runs_until_it_is_answered(play: Play) -> None:
    async def main() -> None:
        bench = Bench("iterative_sequence: true", batch=0)
        work = bench.send(0, id="loop")
        bench.send(0, id="next")
        await bench.executes(rescheduled=[work])
        assert bench.runs() == ["loop"]
        assert told(work) == {"S": 0, "E": 0, "R": 1, "C": 1}
        assert work.step is not None
        assert work.step.flags == 0
        await bench.executes(rescheduled=[work])

        assert bench.asker.responses == []
        assert await bench.executes() == ["loop"]

        assert [response.id for response in bench.asker.responses] == ["loop"]
        assert bench.runs() == ["next"]

    play(main())


def test_a_rescheduled_request_whose_client_has_gone_is_not_run_again(play: Play) -> None:
    async def main() -> None:
        bench = Bench("iterative_sequence: true", batch=0)
        work = bench.send(0, id="loop")
        await settled()
        work.cancelled = True
        bench.scheduler.cancel(work)
        await bench.executes(rescheduled=[work])

        assert isinstance(bench.errors()["loop"], CancelledError)
        assert bench.scheduler.open_sequences == 0

    play(main())


def test_a_rescheduled_request_whose_sequence_was_ended_is_told_so(play: Play) -> None:
    async def main() -> None:
        bench = Bench("iterative_sequence: true", batch=0)
        work = bench.send(0, id="loop")
        await settled()
        bench.scheduler.fail_queued("the model was unloaded")
        bench.scheduler.instance_lost(bench.seats[0], "it is gone")
        await bench.executes(rescheduled=[work])

        assert isinstance(bench.errors()["loop"], UnavailableError)

    play(main())


def test_only_an_iterative_sequence_may_be_rescheduled(play: Play) -> None:
    async def main() -> None:
        bench = Bench(batch=0)
        work = bench.send(1, "SE", id="once")
        await bench.executes(rescheduled=[work])

        error = bench.errors()["once"]
        assert isinstance(error, InternalError)
        assert error.message == (
            "[request id: once] Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, "
            "while the model is not configured to handle such a flag"
        )
        assert bench.scheduler.open_sequences == 0

    play(main())
