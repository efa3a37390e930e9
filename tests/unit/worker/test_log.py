"""What is logged in a worker reaches the supervisor, whatever is in it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from support.peers import Peer

from tritonpy.ipc.messages import Log
from tritonpy.worker.log import SupervisorHandler


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as made:
        yield made


@pytest.fixture
def handler(peer: Peer) -> SupervisorHandler:
    return SupervisorHandler(peer.channel)


@pytest.fixture
def logger(handler: SupervisorHandler) -> Iterator[logging.Logger]:
    made = logging.getLogger("tritonpy.tests")
    made.addHandler(handler)
    made.setLevel(logging.DEBUG)
    made.propagate = False
    yield made
    made.removeHandler(handler)
    made.propagate = True


def received(peer: Peer) -> Log:
    message = peer.receive()
    assert isinstance(message, Log)
    return message


def test_a_record_travels_with_its_place(peer: Peer, logger: logging.Logger) -> None:
    logger.warning("%d of %d", 1, 2)

    log = received(peer)

    assert (log.level, log.message, log.file) == ("WARNING", "1 of 2", "test_log.py")
    assert log.line > 0


def test_an_exception_travels_with_its_traceback(peer: Peer, logger: logging.Logger) -> None:
    try:
        raise RuntimeError("out of cheese")
    except RuntimeError:
        logger.exception("it failed")

    log = received(peer)

    assert log.message.startswith("it failed\nTraceback (most recent call last):\n")
    assert log.message.endswith("RuntimeError: out of cheese\n")


def test_a_file_name_that_is_no_text_is_escaped(peer: Peer, handler: SupervisorHandler) -> None:
    # Past the loggers: the test runner captures their records, and cannot pass this one on.
    handler.handle(logging.LogRecord("n", logging.INFO, "x.py", 1, "loading %s", ("\udcff",), None))

    assert received(peer).message == "loading \\udcff"


def test_a_record_that_cannot_be_formatted_is_reported_and_dropped(
    peer: Peer, handler: SupervisorHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("%d", "number %s"):
        record = logging.LogRecord("n", logging.INFO, "x.py", 1, text, ("one",), None)
        assert handler.handle(record)

    assert received(peer).message == "number one"
    assert "Logging error" in capsys.readouterr().err


def test_nothing_is_waited_for_but_the_sending(
    peer: Peer, logger: logging.Logger, handler: SupervisorHandler
) -> None:
    """Another thread that is stuck in the handler's lock keeps nobody from logging."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        handler.acquire()
        entered.set()
        leave.wait(30)
        handler.release()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(30)

    logger.info("still heard")

    assert received(peer).message == "still heard"
    leave.set()
    thread.join()
