"""A model's exceptions in words: a line for the client, the whole story for the log."""

from __future__ import annotations

import os
import traceback
from types import TracebackType


def summary(error: BaseException) -> str:
    """The type and the first line of the message: what a client may see."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0]}" if lines else name


def summary_with_place(error: BaseException, folder: str) -> str:
    """The summary, and the line of the model's own files that the exception came through last."""
    place = _place(error, folder)
    return f"{summary(error)}, at {place}" if place else summary(error)


def story(error: BaseException) -> str:
    """The traceback, as Python prints it."""
    return "".join(traceback.format_exception(error)).rstrip()


def _place(error: BaseException, folder: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}({error.lineno})"
    frames = list(_frames(error.__traceback__))
    if not frames:
        return ""
    inside = [frame for frame in frames if frame.filename.startswith(folder + os.sep)]
    frame = (inside or frames)[-1]
    return f"{frame.filename}({frame.lineno}): {frame.name}"


def _frames(trace: TracebackType | None) -> traceback.StackSummary:
    return traceback.extract_tb(trace)
