"""Tests for tritonpy.worker.python.log."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

import pytest

from tritonpy.worker.python.log import Logger, LogLevel


@pytest.mark.parametrize(
    ("log", "level"),
    [
        (Logger.log, logging.INFO),
        (Logger.log_info, logging.INFO),
        (Logger.log_warn, logging.WARNING),
        (Logger.log_error, logging.ERROR),
        (Logger.log_verbose, logging.DEBUG),
    ],
)
def test_a_record_has_the_level_and_the_line_of_the_caller(
    log: Callable[[str], None], level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tritonpy.model")

    line = inspect.getsourcelines(test_a_record_has_the_level_and_the_line_of_the_caller)[1]
    log("100 % done")

    (record,) = caplog.records
    assert record.name == "tritonpy.model"
    assert record.levelno == level
    assert record.getMessage() == "100 % done"
    assert record.pathname == __file__
    assert line < record.lineno < line + 30
    assert record.funcName == "test_a_record_has_the_level_and_the_line_of_the_caller"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Logger.INFO, logging.INFO),
        (Logger.WARNING, logging.WARNING),
        (Logger.ERROR, logging.ERROR),
        (Logger.VERBOSE, logging.DEBUG),
    ],
)
def test_log_takes_a_level(
    level: LogLevel, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tritonpy.model")

    Logger.log("x", level)

    assert caplog.records[0].levelno == expected


def test_a_message_that_is_not_text_is_refused() -> None:
    with pytest.raises(TypeError, match="message to be str, got int"):
        Logger.log_info(3)  # type: ignore[arg-type]


def test_a_message_may_be_given_as_utf_8(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tritonpy.model")

    Logger.log_warn(b"hot")  # type: ignore[arg-type]

    assert caplog.records[0].getMessage() == "hot"


def test_levels_are_found_where_triton_has_them() -> None:
    assert Logger.LogLevel.VERBOSE is Logger.VERBOSE


@pytest.mark.parametrize("level", ["INFO", 9, None])
def test_a_level_that_there_is_not_is_refused(level: object) -> None:
    with pytest.raises(TypeError, match=r"a level such as Logger.INFO, got"):
        Logger.log("x", level)  # type: ignore[arg-type]
