"""What a model wants in the server's log."""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import ClassVar

from .text import as_text

#: The worker's main sends the records of this logger to the supervisor.
logger = logging.getLogger("tritonpy.model")

#: From Logger's methods to the model's code that called them: the record names that line.
_CALLER = 2


class LogLevel(IntEnum):
    """Triton's log levels, numbered as Triton numbers them."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


_LEVEL: dict[LogLevel, int] = {
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.VERBOSE: logging.DEBUG,
}


#: Logger has an attribute of this name.
_LogLevel = LogLevel


class Logger:
    """Writes to the server's log, with the file and the line of the caller."""

    INFO: ClassVar[LogLevel] = LogLevel.INFO
    WARNING: ClassVar[LogLevel] = LogLevel.WARNING
    ERROR: ClassVar[LogLevel] = LogLevel.ERROR
    VERBOSE: ClassVar[LogLevel] = LogLevel.VERBOSE
    LogLevel: ClassVar[type[_LogLevel]] = LogLevel

    @staticmethod
    def log(message: str, level: _LogLevel = _LogLevel.INFO) -> None:
        """Log a message at one of this class's levels."""
        logger.log(_level(level), _text(message), stacklevel=_CALLER)

    @staticmethod
    def log_info(message: str) -> None:
        """Log something that is worth knowing."""
        logger.info(_text(message), stacklevel=_CALLER)

    @staticmethod
    def log_warn(message: str) -> None:
        """Log something that may become a problem."""
        logger.warning(_text(message), stacklevel=_CALLER)

    @staticmethod
    def log_error(message: str) -> None:
        """Log something that went wrong."""
        logger.error(_text(message), stacklevel=_CALLER)

    @staticmethod
    def log_verbose(message: str) -> None:
        """Log something that only a verbose log should hold."""
        logger.debug(_text(message), stacklevel=_CALLER)


def _level(level: LogLevel) -> int:
    try:
        return _LEVEL[LogLevel(level)]
    except ValueError:
        raise TypeError(f"log expects a level such as Logger.INFO, got {level!r}") from None


def _text(message: str) -> str:
    return as_text(message, "Logger expects its message")
