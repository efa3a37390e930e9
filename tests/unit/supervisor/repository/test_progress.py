"""Downloads that take long are told of in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tritonpy.supervisor.repository.cloud import Progress


def test_a_long_download_is_told_of_every_few_seconds(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]

    def parts(count: int) -> Iterator[memoryview]:
        for _ in range(count):
            now[0] += 2  # seconds for each part
            yield memoryview(bytes(10))

    caplog.set_level(logging.INFO)
    progress = Progress("m", "gs://bucket/models", 70, lambda: now[0])
    for file in (4, 3):
        assert len(list(progress.of(parts(file)))) == file

    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "downloading model 'm' from gs://bucket/models: 30 of 70 bytes",
        "downloading model 'm' from gs://bucket/models: 60 of 70 bytes",
    ]


def test_a_short_download_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(Progress("m", "s3://bucket", 3, lambda: 0.0).of(iter([memoryview(b"abc")])))
    assert caplog.records == []
