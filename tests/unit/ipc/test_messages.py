"""Errors are put into words that can be sent; the messages' round trips are in tests/property."""

from __future__ import annotations

import msgspec

from tritonpy.ipc.errors import NotFoundError
from tritonpy.ipc.messages import Error, FromWorker, LoadFailed, error_of


def test_an_error_travels_as_code_and_message() -> None:
    assert error_of(NotFoundError("no such file: café")) == Error("NOT_FOUND", "no such file: café")


def test_a_file_name_that_is_no_text_does_not_keep_an_error_from_being_sent() -> None:
    error = error_of(NotFoundError("no such file: \udcff"))

    sent = msgspec.msgpack.encode(LoadFailed(error))

    assert msgspec.msgpack.decode(sent, type=FromWorker) == LoadFailed(
        Error("NOT_FOUND", "no such file: \\udcff")
    )
