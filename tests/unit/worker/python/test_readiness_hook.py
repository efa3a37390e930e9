"""What a model says when it is asked whether it is ready."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tritonpy.worker.python.event_loop import EventLoop
from tritonpy.worker.python.readiness_hook import ReadinessHook


class Model:
    def __init__(self, is_ready: Callable[[], Any]) -> None:
        self.is_ready = is_ready


@pytest.fixture
def event_loop() -> Iterator[EventLoop]:
    made = EventLoop()
    yield made
    made.stop()


def hook(event_loop: EventLoop, is_ready: Callable[[], Any]) -> ReadinessHook:
    return ReadinessHook("m_0_0", Model(is_ready), event_loop)


@pytest.mark.parametrize("ready", [True, False])
def test_a_bool_is_the_answer(event_loop: EventLoop, ready: bool) -> None:
    assert hook(event_loop, lambda: ready)() is ready


@pytest.mark.parametrize("ready", [True, False])
def test_a_coroutine_is_awaited_on_the_model_s_loop(event_loop: EventLoop, ready: bool) -> None:
    threads: list[threading.Thread] = []

    async def is_ready() -> bool:
        await asyncio.sleep(0)
        threads.append(threading.current_thread())
        return ready

    assert hook(event_loop, is_ready)() is ready
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize("answer", [1, None, "yes", np.bool_(True)])
def test_anything_else_is_no(
    event_loop: EventLoop, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert hook(event_loop, lambda: answer)() is False

    assert "is_ready() must return a boolean value, got" in caplog.text


@pytest.mark.parametrize("error", [ValueError("no base"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_is_no(
    event_loop: EventLoop, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def is_ready() -> bool:
        raise error

    async def later() -> bool:
        raise error

    assert hook(event_loop, is_ready)() is False
    assert "Traceback" in caplog.text
    if not isinstance(error, KeyboardInterrupt):
        assert hook(event_loop, later)() is False


def test_what_is_wrong_is_logged_when_it_begins(
    event_loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "tritonpy.model")
    answers: Iterator[object] = iter([1, 1, True, 1, "x"])
    asking = hook(event_loop, lambda: next(answers))

    assert [asking() for _ in range(5)] == [False, False, True, False, False]

    assert len(caplog.records) == 3
