"""The log: formats, sinks, verbosity, and that no message can forge a line."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tritonpy.ipc.errors import InvalidArgumentError, UnsupportedError
from tritonpy.supervisor import log
from tritonpy.supervisor.settings import LogSettings

LOGGER = logging.getLogger("tritonpy.supervisor.somewhere")

#: 2026-03-04 05:06:07.089012 UTC
MOMENT = 1772600767.089012


class Streams:
    """What was written to standard output and to standard error since the last look."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def read(self) -> tuple[str, str]:
        """Standard output and standard error."""
        out, err = self._capture.readouterr()
        return out, err

    def messages(self) -> list[str]:
        """The message of every line of both, informative ones first."""
        return [line.split("] ", 1)[1] for line in "".join(self.read()).splitlines()]


@pytest.fixture
def streams(capsys: pytest.CaptureFixture[str]) -> Streams:
    return Streams(capsys)


@contextmanager
def opened(settings: LogSettings) -> Generator[log.ServerLog]:
    server_log = log.ServerLog(settings)
    server_log.open()
    try:
        yield server_log
    finally:
        server_log.close()


def record(level: int, message: str, **attributes: object) -> logging.LogRecord:
    made = logging.LogRecord("tritonpy.x", level, "/a/b/model.py", 42, message, None, None)
    made.created = MOMENT
    made.process = 7
    vars(made).update(attributes)
    return made


@pytest.mark.parametrize(
    ("level", "letter"),
    [
        (logging.DEBUG, "I"),
        (logging.INFO, "I"),
        (logging.WARNING, "W"),
        (logging.ERROR, "E"),
        (logging.CRITICAL, "E"),
    ],
)
def test_the_default_format_is_tritons(level: int, letter: str) -> None:
    line = log.TritonFormatter(LogSettings()).format(record(level, "hello"))
    assert re.fullmatch(rf'{letter}0304 05:06:07\.08901\d 7 model\.py:42\] "hello"', line)


def test_the_iso_format_has_no_fraction() -> None:
    formatter = log.TritonFormatter(LogSettings(format="ISO8601"))
    line = formatter.format(record(logging.WARNING, "hello"))
    assert line == '2026-03-04T05:06:07Z W 7 model.py:42] "hello"'


def test_a_message_stays_one_line_and_is_valid_json() -> None:
    nasty = 'a "b" \\ \n\r\x1b[31m \x7f \x9b \u2028 \u202e \ud800 é'
    line = log.TritonFormatter(LogSettings()).format(record(logging.INFO, nasty))
    quoted = line.split("] ", 1)[1]
    assert json.loads(quoted) == nasty
    assert quoted.isprintable()
    assert "é" in quoted


def test_quoting_can_be_switched_off_but_not_for_what_a_worker_wrote() -> None:
    formatter = log.TritonFormatter(LogSettings(escape=False))
    assert formatter.format(record(logging.INFO, 'a "b"')).endswith('] a "b"')
    foreign = record(logging.INFO, "a\x1b\nI0304 forged", foreign=True)
    assert formatter.format(foreign).endswith("] a\\u001b\\u000aI0304 forged")


def test_a_traceback_is_part_of_the_one_line(streams: Streams) -> None:
    with opened(LogSettings()):
        try:
            raise KeyError("lost")
        except KeyError:
            LOGGER.exception("it failed")
    (message,) = streams.messages()
    lines = json.loads(message).split("\n")
    assert lines[0] == "it failed"
    assert lines[-1] == "KeyError: 'lost'"


def test_a_table_follows_its_heading_as_it_is(streams: Streams) -> None:
    with opened(LogSettings()):
        log.table(LOGGER, '+--+\n| "\x1b |\n+--+')
    heading, *rest = streams.read()[0].split("\n")
    assert re.fullmatch(rf"I\d{{4}} [\d:.]+ {os.getpid()} {Path(__file__).name}:\d+\] ", heading)
    assert rest == ["+--+", '| "\\u001b |', "+--+", ""]


def test_information_goes_to_standard_output_and_trouble_to_standard_error(
    streams: Streams,
) -> None:
    with opened(LogSettings()):
        LOGGER.info("information")
        LOGGER.warning("warning")
        LOGGER.error("error")
    out, err = streams.read()
    assert [line[0] for line in out.splitlines()] == ["I"]
    assert [line[0] for line in err.splitlines()] == ["W", "E"]


def test_a_log_file_replaces_both(streams: Streams, tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("before\n")
    with opened(LogSettings(file=str(path))):
        LOGGER.info("information é")
        LOGGER.error("error")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "before"
    assert [line.split("] ", 1)[1] for line in lines[1:]] == ['"information é"', '"error"']
    assert streams.messages() == []


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "server.log"
    server_log = log.ServerLog(LogSettings(file=str(path)))
    with pytest.raises(InvalidArgumentError, match=f"cannot open the log file '{path}': No such"):
        server_log.open()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (LogSettings(), ["information", "warning", "error"]),
        (LogSettings(info=False), ["warning", "error"]),
        (LogSettings(warning=False), ["information", "error"]),
        (LogSettings(info=False, warning=False), ["error"]),
        (LogSettings(error=False), ["information", "warning"]),
        (LogSettings(verbose=1), ["verbose 1", "information", "warning", "error"]),
        (LogSettings(verbose=2, info=False), ["verbose 1", "verbose 2", "warning", "error"]),
    ],
)
def test_each_level_can_be_switched(
    settings: LogSettings, expected: list[str], streams: Streams
) -> None:
    with opened(settings):
        LOGGER.log(log.verbose(1), "verbose 1")
        LOGGER.log(log.verbose(2), "verbose 2")
        LOGGER.info("information")
        LOGGER.warning("warning")
        LOGGER.error("error")
    assert [json.loads(message) for message in streams.messages()] == expected


def test_settings_change_while_the_log_is_open(streams: Streams) -> None:
    with opened(LogSettings()) as server_log:
        server_log.change(LogSettings(verbose=1, format="ISO8601"))
        assert server_log.settings.verbose == 1
        LOGGER.debug("now")
    assert re.fullmatch(r'[\d-]+T[\d:]+Z I \d+ \S+\] "now"\n', streams.read()[0])


def test_the_file_does_not_change_while_the_log_is_open(streams: Streams) -> None:
    with (
        opened(LogSettings()) as server_log,
        pytest.raises(UnsupportedError, match="the log file cannot be changed"),
    ):
        server_log.change(LogSettings(file="elsewhere"))


def test_a_closed_log_leaves_the_loggers_as_they_were(streams: Streams) -> None:
    tree = logging.getLogger("tritonpy")
    before = (list(tree.handlers), tree.level, tree.propagate)
    with opened(LogSettings()):
        pass
    assert (list(tree.handlers), tree.level, tree.propagate) == before


def test_a_stream_whose_reader_is_gone_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", buffering=1)
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", errors)
    with opened(LogSettings()):
        LOGGER.info("to nobody")
    monkeypatch.undo()
    with pytest.raises(BrokenPipeError):
        stream.close()
    assert errors.getvalue() == ""


def test_warnings_of_the_libraries_are_logged_too(streams: Streams) -> None:
    with opened(LogSettings(verbose=3)):
        logging.getLogger("asyncio").info("chatter")
        logging.getLogger("aiohttp.server").warning("trouble")
    assert streams.messages() == ['"trouble"']


def test_a_workers_lines_carry_its_instance(streams: Streams) -> None:
    with opened(LogSettings()):
        log.worker_line("digits_0_0", "stdout", "hello\n")
        log.worker_line("digits_0_0", "stderr", "bad\x1b[2J\r\n")
    out, err = streams.read()
    assert (out[0], json.loads(out.split("] ", 1)[1])) == ("I", "[digits_0_0] hello")
    assert (err[0], json.loads(err.split("] ", 1)[1])) == ("W", "[digits_0_0] bad\x1b[2J")


@pytest.mark.parametrize(
    ("level", "letter"), [("INFO", "I"), ("WARNING", "W"), ("ERROR", "E"), ("VERBOSE", "I")]
)
def test_a_models_record_shows_the_models_file(level: str, letter: str, streams: Streams) -> None:
    with opened(LogSettings(verbose=1)):
        log.model_record("m_0_0", level, "said", "/models/m/1/mo\x1bdel.py", 9)
    written = "".join(streams.read())
    assert written[0] == letter
    assert written.endswith(' mo\\u001bdel.py:9] "[m_0_0] said"\n')


def _wrong_format(value: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"no format: {value}")


def test_clients_change_the_settings_that_they_name() -> None:
    with opened(LogSettings(file="")) as server_log:
        changes = {"log_verbose_level": 2**40, "log_info": False, "nope": 1}
        server_log.update(changes, _wrong_format)
        assert server_log.settings == LogSettings(verbose=2**31 - 1, info=False)


def test_nothing_changes_when_one_of_the_changes_is_wrong() -> None:
    with opened(LogSettings()) as server_log:
        with pytest.raises(InvalidArgumentError, match="no format: nope"):
            server_log.update({"log_error": False, "log_format": "nope"}, _wrong_format)
        with pytest.raises(UnsupportedError, match="log file location can not be updated"):
            server_log.update({"log_error": False, "log_file": "x"}, _wrong_format)
        assert server_log.settings == LogSettings()
