"""The worker's log records, sent to the supervisor, which owns the log."""

from __future__ import annotations

import logging
import os
import traceback

from ..ipc.channel import WorkerChannel
from ..ipc.messages import Log


class SupervisorHandler(logging.Handler):
    """Sends each record as a message, its traceback included."""

    def __init__(self, channel: WorkerChannel) -> None:
        super().__init__()
        self._channel = channel

    def handle(self, record: logging.LogRecord) -> bool:
        """Send the record without the handler's lock, as sending has one of its own.

        Two locks could wait for each other: a finalizer that runs in the middle of a send may log.
        """
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; a record that cannot be formatted is reported and dropped."""
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                message += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
            file = os.path.basename(record.pathname)
            self._channel.send(Log(record.levelname, _text(message), _text(file), record.lineno))
        except Exception:  # logging must never take the model down
            self.handleError(record)


def _text(text: str) -> str:
    """The text with lone surrogates escaped: file names may hold them, messages cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
