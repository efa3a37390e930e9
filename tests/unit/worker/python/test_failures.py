"""Tests for tritonpy.worker.python.failures."""

from __future__ import annotations

import os

from tritonpy.worker.python import failures

FOLDER = os.path.dirname(__file__)


def caught(message: str) -> ValueError:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def test_a_summary_is_the_type_and_the_first_line() -> None:
    assert failures.summary(ValueError("\nfirst\nsecond")) == "ValueError: first"
    assert failures.summary(KeyError("k")) == "KeyError: 'k'"
    assert failures.summary(RuntimeError()) == "RuntimeError"


def test_the_place_is_the_last_line_inside_the_folder() -> None:
    try:
        os.fspath(failures.summary)  # type: ignore[call-overload]
    except TypeError as error:
        place = failures.summary_with_place(error, FOLDER)
    assert f", at {__file__}(" in place
    assert place.endswith("): test_the_place_is_the_last_line_inside_the_folder")


def test_the_place_outside_of_the_folder_is_the_last_line_of_all() -> None:
    assert failures.summary_with_place(caught("no"), "/elsewhere").endswith("): caught")


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert failures.summary_with_place(ValueError("no"), FOLDER) == "ValueError: no"


def test_the_story_is_the_traceback() -> None:
    story = failures.story(caught("no\nmore"))

    assert story.startswith("Traceback (most recent call last):")
    assert story.endswith("ValueError: no\nmore")
