"""A model's exceptions in words: a line for the client, the whole story for the log."""

from __future__ import annotations

import importlib
import os
import traceback

#: Where the frames between the worker and a model's code lie.
_MACHINERY = (
    os.path.dirname(__file__) + os.sep,
    os.path.dirname(importlib.__file__) + os.sep,
    "<frozen importlib",
)


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
    """The traceback as Python prints it, without the frames that led to the model's code."""
    trace = error.__traceback__
    while trace is not None and _leads_there(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def _place(error: BaseException, folder: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}({error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    inside = [frame for frame in frames if frame.filename.startswith(folder + os.sep)]
    frame = (inside or frames)[-1]
    return f"{frame.filename}({frame.lineno}): {frame.name}"


def _leads_there(filename: str) -> bool:
    return filename.startswith(_MACHINERY)
