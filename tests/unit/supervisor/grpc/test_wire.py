"""Fields are cut out of, and put into, encoded messages as protobuf itself would."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2

from tritonpy.supervisor.grpc.wire import append_field, cut_field, nested, varint


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    found = cut_field(data, 7)
    assert found is not None
    return found[0], [bytes(entry) for entry in found[1]]


def test_cut_fields_and_the_rest_are_what_was_encoded() -> None:
    message = service_pb2.ModelInferRequest(model_name="m", id="r", model_version="3")
    message.inputs.add(name="a", datatype="FP32").shape.extend([1, 2])
    message.inputs.add(name="b", datatype="FP32").shape.extend([300])
    contents = [b"", b"x" * 5, b"y" * 300, b"z" * 100_000]
    message.raw_input_contents.extend(contents)

    rest, entries = cut(message.SerializeToString())

    assert entries == contents
    del message.raw_input_contents[:]
    assert rest == message.SerializeToString()


def test_fields_after_and_between_the_cut_ones_are_kept() -> None:
    one = service_pb2.ModelInferRequest(raw_input_contents=[b"1"]).SerializeToString()
    other = service_pb2.ModelInferRequest(model_name="m").SerializeToString()

    assert cut(one + other + one) == (other, [b"1", b"1"])


def test_numbers_of_every_kind_are_stepped_over() -> None:
    # fields 1 (varint), 2 (64 bits), 3 (32 bits), then field 7
    data = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x3a\x01a"

    assert cut(data) == (data[:-3], [b"a"])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x3a\x05ab", id="entry cut off"),
        pytest.param(b"\x3a", id="length missing"),
        pytest.param(b"\x3a\xff", id="length cut off"),
        pytest.param(b"\x08", id="number missing"),
        pytest.param(b"\x11\x00", id="64 bits cut off"),
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x0f", id="a kind that does not exist"),
    ],
)
def test_what_is_malformed_is_left_to_a_real_parser(data: bytes) -> None:
    assert cut_field(data, 7) is None


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**14, 2**31 - 1, 2**40])
def test_numbers_are_encoded_as_protobuf_does(value: int) -> None:
    encoded = service_pb2.StatisticDuration(count=value).SerializeToString()

    assert encoded == (b"\x08" + varint(value) if value else b"")


def test_a_message_is_put_together_from_parts() -> None:
    inner = service_pb2.ModelInferResponse(model_name="m")
    parts: list[bytes | memoryview] = [inner.SerializeToString()]
    append_field(parts, 6, memoryview(b""))
    append_field(parts, 6, memoryview(b"x" * 1000))
    inner.raw_output_contents.extend([b"", b"x" * 1000])

    assert b"".join(parts) == inner.SerializeToString()
    outer = service_pb2.ModelStreamInferResponse.FromString(nested(2, parts))
    assert outer == service_pb2.ModelStreamInferResponse(infer_response=inner)
