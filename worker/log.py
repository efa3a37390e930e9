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

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; a record that cannot be formatted is reported and dropped."""
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                message += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
            file = os.path.basename(record.pathname)
            self._channel.send(Log(record.levelname, message, file, record.lineno))
        except Exception:  # logging must never take the model down
            self.handleError(record)
