"""A worker as a process: how it starts, what it ignores, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import models
from support.peers import Peer

from tritonpy.ipc import messages
from tritonpy.ipc.arena import CHUNK_BYTES
from tritonpy.ipc.messages import Load, Loaded, LoadFailed, Log, Started, Stop, Stopped

INSTANCE = messages.Instance("m_0", "CPU", 0, 1)

MODEL = """
    import os, signal, subprocess, sys, threading

    class TritonPythonModel:
        def initialize(self, args):
            {initialize}

        def execute(self, requests):
            pass

        def finalize(self):
            {finalize}
"""


class Process:
    """A worker process and the test's end of it."""

    def __init__(self, parent: int | None = None) -> None:
        self.peer = Peer(apart=True)
        ends = (self.peer.workers_end, self.peer.workers_lifeline)
        inherited = [end.fileno() for end in ends]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "tritonpy.worker"),
                *(*map(str, inherited), str(parent or os.getpid()), "m_0"),
            ],
            pass_fds=inherited,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        for end in ends:
            end.close()

    def start(self) -> None:
        """Wait until it is up, and give it its output arena."""
        assert self.peer.receive() == Started()
        self.peer.attach(0, 4 * CHUNK_BYTES)

    def load(self, directory: Path) -> messages.FromWorker:
        """Have it load a python model; returns what it answers."""
        config: dict[str, object] = {"name": "m", "backend": "python", "input": [], "output": []}
        files = messages.ModelFiles("m", 1, str(directory), str(directory / "1"))
        self.peer.send(Load(files, json.dumps(config), INSTANCE, {}))
        return self.peer.receive()

    def stop(self) -> None:
        self.peer.send(Stop())

    def ended(self) -> tuple[int, str, str]:
        """Its exit status and what it has written."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def close(self) -> None:
        self.process.kill()
        with self.process:
            self.process.wait(30)
        with self.peer:
            pass


MakeProcess = Callable[..., Process]
MakeModel = Callable[..., Path]


@pytest.fixture
def worker() -> Iterator[MakeProcess]:
    made: list[Process] = []

    def make(**more: int) -> Process:
        made.append(Process(**more))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def model(tmp_path: Path) -> MakeModel:
    def make(initialize: str = "pass", finalize: str = "pass") -> Path:
        code = MODEL.format(initialize=initialize, finalize=finalize)
        return models.python_model(tmp_path, "m", code, "")

    return make


def test_it_stops_when_it_is_told_to_and_says_so_last(worker: MakeProcess) -> None:
    process = worker()
    process.start()

    process.stop()

    assert process.peer.receive() == Stopped()
    assert process.ended() == (0, "", "")


def test_it_does_not_start_for_a_parent_that_is_gone(worker: MakeProcess) -> None:
    process = worker(parent=1)

    assert process.ended() == (1, "", "")


def test_it_volunteers_when_memory_is_short(worker: MakeProcess) -> None:
    process = worker()
    process.start()

    adjustment = Path(f"/proc/{process.process.pid}/oom_score_adj").read_text(encoding="ascii")

    assert int(adjustment) >= 500
    process.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_everybody_gets_do_not_end_it(
    worker: MakeProcess, number: signal.Signals
) -> None:
    process = worker()
    process.start()

    process.process.send_signal(number)
    process.stop()

    assert process.peer.receive() == Stopped()
    assert process.ended()[0] == 0


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.Popen(['sleep', '100'])",
        "__import__('multiprocessing').get_context('fork').Process(target=signal.pause)",
    ],
    ids=["program", "fork"],
)
def test_what_a_model_starts_can_be_ended_by_a_signal(
    worker: MakeProcess, model: MakeModel, start: str
) -> None:
    initialize = f"""
            child = {start}
            if hasattr(child, "start"):
                child.start()
            child.terminate()
            (child.join if hasattr(child, "join") else child.wait)()
            status = child.exitcode if hasattr(child, "exitcode") else child.returncode
            assert status == -signal.SIGTERM, status
    """
    process = worker()
    process.start()

    assert isinstance(process.load(model(initialize=initialize.strip())), Loaded)
    process.stop()


def test_what_a_model_starts_does_not_inherit_our_descriptors(
    worker: MakeProcess, model: MakeModel
) -> None:
    listing = (
        "listing = subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False, "
        "capture_output=True, text=True).stdout\n"
        "            assert 'memfd' not in listing and 'socket' not in listing, listing"
    )
    process = worker()
    process.start()

    assert isinstance(process.load(model(initialize=listing)), Loaded)
    process.stop()


def test_a_loaded_model_is_not_looked_at_by_the_garbage_collector(
    worker: MakeProcess, model: MakeModel
) -> None:
    process = worker()
    process.start()
    count = "import gc; print(gc.get_freeze_count() > 10_000, flush=True)"
    assert isinstance(process.load(model(initialize=count, finalize=count)), Loaded)

    process.stop()

    assert process.ended()[:2] == (0, "False\nTrue\n")


def test_a_models_threads_do_not_keep_it(worker: MakeProcess, model: MakeModel) -> None:
    process = worker()
    process.start()
    forever = "threading.Thread(target=threading.Event().wait).start()"
    assert isinstance(process.load(model(initialize=forever)), Loaded)

    process.stop()

    assert process.peer.receive() == Stopped()
    assert process.ended()[0] == 0


def test_a_load_that_fails_ends_it_although_the_model_has_threads(
    worker: MakeProcess, model: MakeModel
) -> None:
    process = worker()
    process.start()
    initialize = (
        "threading.Thread(target=threading.Event().wait).start()\n"
        "            raise RuntimeError('no weights')"
    )

    message = process.load(model(initialize=initialize))
    while isinstance(message, Log):
        message = process.peer.receive()

    assert isinstance(message, LoadFailed)
    assert "no weights" in message.error.message
    assert process.ended()[0] == 0


def test_a_loop_that_fails_says_why_and_ends_it_although_the_model_has_threads(
    worker: MakeProcess, model: MakeModel
) -> None:
    process = worker()
    process.start()
    forever = "threading.Thread(target=threading.Event().wait).start()"
    assert isinstance(process.load(model(initialize=forever)), Loaded)

    process.peer.lifeline.close()
    process.peer.send(messages.AttachArena(5, CHUNK_BYTES))

    status, _, err = process.ended()
    assert status == 1
    assert err.endswith("ConnectionError: the supervisor closed the lifeline\n")


def test_what_a_model_prints_without_a_newline_is_not_lost(
    worker: MakeProcess, model: MakeModel
) -> None:
    process = worker()
    process.start()
    assert isinstance(process.load(model(finalize="sys.stdout.write('goodbye')")), Loaded)

    process.stop()

    assert process.ended() == (0, "goodbye", "")


def test_a_model_that_closes_its_output_ends_in_order(
    worker: MakeProcess, model: MakeModel
) -> None:
    process = worker()
    process.start()
    assert isinstance(process.load(model(finalize="sys.stdout.close()")), Loaded)

    process.stop()

    assert process.ended()[0] == 0


def test_logging_that_a_model_sets_up_does_not_double_our_lines(
    worker: MakeProcess, model: MakeModel
) -> None:
    process = worker()
    process.start()
    finalize = (
        "import logging\n"
        "            logging.basicConfig()\n"
        "            raise RuntimeError('I want to stay')"
    )
    assert isinstance(process.load(model(finalize=finalize)), Loaded)

    process.stop()

    told = process.peer.receive()
    assert isinstance(told, Log)
    assert "I want to stay" in told.message
    assert process.peer.receive() == Stopped()
    assert process.ended() == (0, "", "")
