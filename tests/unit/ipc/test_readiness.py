"""Questions through a pipe: they arrive one by one, and end with whoever asks."""

from __future__ import annotations

import os

import pytest

from tritonpy.ipc.readiness import Question, questions


def test_each_question_arrives_once_and_the_last_one_asking_ends_them() -> None:
    question = Question()
    descriptor = os.dup(question.descriptor)
    question.ask()
    question.ask()
    question.close()

    assert list(questions(descriptor)) == [None, None]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
