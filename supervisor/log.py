"""The server's log: Triton's line formats on top of the standard library's logging.

Every module logs to `logging.getLogger(__name__)`, all below one logger, "tritonpy". Informative
and verbose records go to standard output, warnings and errors to standard error, or all to a file.
Messages are JSON-quoted: whatever a client or a model puts into one, it stays one line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO, get_args

import msgspec

from ..ipc.errors import InvalidArgumentError, StatusError, UnsupportedError
from .settings import LogFormat, LogSettings

#: Loggers that share the server's handlers: ours, and those of the libraries that serve.
_TREES = ("tritonpy", "asyncio", "aiohttp", "grpc")

#: The switches of the log by the names that they have in the protocol.
LOG_FLAGS = ("log_info", "log_warning", "log_error")

#: Nobody asks for more than this, and the protocol's integers end here.
_MOST_VERBOSE = 2**31 - 1

_LETTERS = {logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "E"}

#: Levels as a model names them in its own log records.
_MODEL_LEVELS = {"WARNING": logging.WARNING, "ERROR": logging.ERROR, "INFO": logging.INFO}

#: Characters that move the cursor, hide or reorder text, or cannot be encoded. JSON quotes only the
#: first 32 by itself.
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_TABLE = re.compile(_CONTROL.pattern.replace(r"\x00-\x1f", r"\x00-\x09\x0b-\x1f"))

_logger = logging.getLogger(__name__)


def verbose(level: int) -> int:
    """The level of the logging module for Triton's verbosity `level`, which counts from 1."""
    return max(logging.DEBUG + 1 - level, 1)


def printable(text: str) -> str:
    """The text with every control character written as an escape, so that it stays one line."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def quote(text: str) -> str:
    """The text as a JSON string that holds nothing a terminal would act on."""
    return _UNPRINTABLE.sub(_escape, json.dumps(text, ensure_ascii=False))


class TritonFormatter(logging.Formatter):
    """Writes a record as tritonserver does: level, time in UTC, process, place, message."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._iso8601 = settings.format == "ISO8601"
        self._quoted = settings.escape

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, without the newline; a table has lines of its own."""
        letter = _LETTERS.get(record.levelno, "I")
        moment = time.gmtime(record.created)
        if self._iso8601:
            start = time.strftime(f"%Y-%m-%dT%H:%M:%SZ {letter}", moment)
        else:
            micros = int(record.created % 1 * 1_000_000)
            start = f"{letter}{time.strftime('%m%d %H:%M:%S', moment)}.{micros:06d}"
        place = f"{start} {record.process} {record.filename}:{record.lineno}] "
        return place + self._message(record)

    def _message(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if getattr(record, "table", False):
            return "\n" + _CONTROL_IN_TABLE.sub(_escape, message)
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        if self._quoted:
            return quote(message)
        return printable(message) if getattr(record, "foreign", False) else message


class _Sink(logging.StreamHandler[TextIO]):
    """A stream that records are written to; one whose reader is gone is written to in vain."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Keep silent about a closed stream or a full disk: there is no place to report it to."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handleError(record)


class ServerLog:
    """The handlers below all loggers of the server, and the settings that they obey.

    `open` puts them in place and `close` takes them away; `change` may be called in between.
    """

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._sinks: list[_Sink] = []
        self._file: TextIO | None = None

    def __repr__(self) -> str:
        state = f"{len(self._sinks)} sinks" if self._sinks else "closed"
        return f"<ServerLog to {self._settings.file or 'the console'}, {state}>"

    @property
    def settings(self) -> LogSettings:
        """The settings that are in force now."""
        return self._settings

    def open(self) -> None:
        """Begin to write. Raises InvalidArgumentError when the log file cannot be opened."""
        name = self._settings.file
        if name:
            try:
                self._file = open(name, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - closed by close()
            except OSError as error:
                raise InvalidArgumentError(
                    f"cannot open the log file '{printable(name)}': {error.strerror}"
                ) from None
            self._sinks = [_Sink(self._file)]
        else:
            out, err = _Sink(sys.stdout), _Sink(sys.stderr)
            out.addFilter(lambda record: record.levelno < logging.WARNING)
            err.addFilter(lambda record: record.levelno >= logging.WARNING)
            self._sinks = [out, err]
        for tree in map(logging.getLogger, _TREES):
            tree.propagate = False
            for sink in self._sinks:
                tree.addHandler(sink)
        for sink in self._sinks:
            sink.addFilter(self._lets_through)
        self._apply()

    def close(self) -> None:
        """Stop writing, and give the loggers back as they were."""
        for tree in map(logging.getLogger, _TREES):
            for sink in self._sinks:
                tree.removeHandler(sink)
            tree.propagate = True
            tree.setLevel(logging.NOTSET)
        for sink in self._sinks:
            sink.close()
        self._sinks = []
        if self._file is not None:
            self._file.close()
            self._file = None

    def change(self, settings: LogSettings) -> None:
        """Obey other settings from now on. Raises UnsupportedError when the file would change."""
        if settings.file != self._settings.file:
            raise UnsupportedError("the log file cannot be changed while the server runs")
        self._settings = settings
        self._apply()

    def update(
        self,
        changes: Mapping[str, bool | int | str],
        bad_format: Callable[[str], StatusError],
    ) -> None:
        """Change what clients may: the settings that `changes` names as the protocol does.

        Their types have been checked. Nothing is changed when one cannot be: raises what
        `bad_format` makes of a wrong format, and UnsupportedError for the file.
        """
        if "log_file" in changes:
            raise UnsupportedError("log file location can not be updated through network protocol")
        form = changes.get("log_format")
        if form is not None and form not in get_args(LogFormat):
            raise bad_format(str(form))
        fields = {
            name.removeprefix("log_"): value
            for name, value in changes.items()
            if name in LOG_FLAGS or name == "log_format"
        }
        level = changes.get("log_verbose_level")
        if level is not None:
            fields["verbose"] = min(int(level), _MOST_VERBOSE)
        self.change(msgspec.structs.replace(self._settings, **fields))

    def _apply(self) -> None:
        settings = self._settings
        formatter = TritonFormatter(settings)
        for sink in self._sinks:
            sink.setFormatter(formatter)
        # Loggers refuse what no sink wants before a record is even made.
        if settings.verbose:
            lowest = verbose(settings.verbose)
        elif settings.info:
            lowest = logging.INFO
        else:
            lowest = logging.WARNING if settings.warning else logging.ERROR
        logging.getLogger("tritonpy").setLevel(lowest)
        for tree in _TREES[1:]:  # a library's chatter is no verbosity of ours
            logging.getLogger(tree).setLevel(max(lowest, logging.WARNING))

    def _lets_through(self, record: logging.LogRecord) -> bool:
        settings = self._settings
        level = record.levelno
        if level < logging.INFO:
            return level >= verbose(settings.verbose)
        if level < logging.WARNING:
            return settings.info
        return settings.warning if level < logging.ERROR else settings.error


def described(settings: LogSettings) -> dict[str, bool | int | str]:
    """The settings as clients know them, in Triton's order."""
    return {
        "log_file": settings.file,
        "log_info": settings.info,
        "log_warning": settings.warning,
        "log_error": settings.error,
        "log_verbose_level": settings.verbose,
        "log_format": settings.format,
    }


def table(logger: logging.Logger, text: str) -> None:
    """Log a table of tables.py: a heading line, then the table as it is."""
    logger.info("%s", text, extra={"table": True}, stacklevel=2)


def worker_line(instance: str, stream: str, text: str) -> None:
    """Log a line that a worker wrote to its "stdout" or "stderr", under its instance's name."""
    level = logging.WARNING if stream == "stderr" else logging.INFO
    _logger.log(
        level, "[%s] %s", instance, text.rstrip("\r\n"), extra={"foreign": True}, stacklevel=2
    )


def model_record(instance: str, level: str, message: str, file: str, line: int) -> None:
    """Log a record of a model's own logger as if it came from the model's file and line."""
    number = _MODEL_LEVELS.get(level, verbose(1))
    if not _logger.isEnabledFor(number):
        return
    record = _logger.makeRecord(
        _logger.name,
        number,
        printable(file),
        line,
        "[%s] %s",
        (instance, message),
        None,
        extra={"foreign": True},
    )
    _logger.handle(record)
