"""The fields of answers, as a client decodes them."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.grpc import answers
from tritonpy.supervisor.grpc.compression import ENCODINGS
from tritonpy.supervisor.grpc.status import Status


def decoded(block: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in Decoder().decode(block)}


@pytest.mark.parametrize("encoding", [None, *ENCODINGS])
def test_answers_begin_with_how_they_are_compressed(encoding: str | None) -> None:
    found = decoded(answers.BEGINNING[encoding])  # type: ignore[index]
    assert found.pop("grpc-encoding", None) == encoding
    assert found == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity, deflate, gzip",
    }


def test_they_end_with_a_status() -> None:
    assert decoded(answers.SUCCEEDED) == {"grpc-status": "0"}
    assert decoded(answers.ending(Status.UNIMPLEMENTED, "")) == {"grpc-status": "12"}
    assert decoded(answers.failed(Status.NOT_FOUND, "no")) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "5",
        "grpc-message": "no",
    }


@given(st.text(max_size=50))
def test_messages_are_percent_encoded(text: str) -> None:
    found = decoded(answers.ending(Status.INTERNAL, text))
    message = found.get("grpc-message", "")
    assert message.isascii()
    assert message.isprintable()
    assert unquote(message) == text


def test_a_percent_sign_is_encoded_as_well() -> None:
    assert decoded(answers.ending(Status.INTERNAL, "%41"))["grpc-message"] == "%2541"


def test_a_long_message_is_cut() -> None:
    found = decoded(answers.ending(Status.INTERNAL, "ä" * 10_000))
    assert len(found["grpc-message"]) < 8192
    assert found["grpc-message"].endswith("...")


def test_half_a_character_is_replaced() -> None:
    assert decoded(answers.ending(Status.INTERNAL, "\ud800"))["grpc-message"] == "?"
