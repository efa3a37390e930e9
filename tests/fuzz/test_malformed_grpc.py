"""Malformed gRPC messages and broken HTTP/2: refused, and forgotten."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import connect, infer_request, input_tensor
from support.servers import RunningServer
from support.transports import TRANSPORTS

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS, scope="session")

_SERVICE = "/inference.GRPCInferenceService/"
_CALLS = [
    *("ModelInfer",) * 6,
    *("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"),
    *("RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryStatus"),
    *("SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryRegister"),
    *("CudaSharedMemoryStatus", "TraceSetting", "LogSettings", "ServerMetadata", "Nothing"),
]
#: INTERNAL is Triton's code for bytes that are no message, and for segments that cannot be opened.
_TRITONS_INTERNAL = ("Unable to parse request", "Unable to open shared memory region")
_UNEXPECTED = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.ABORTED}

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: The fields of a call, as literals, and a message.
_LIVE = b"\x83\x86\x41\x01x\x04\x30/inference.GRPCInferenceService/ModelStreamInfer"
_MESSAGE = b"\0\0\0\0\4\n\2ab"

_Scalar = int | bool | str | float
_SCALARS: st.SearchStrategy[_Scalar] = st.sampled_from(
    [0, 1, -1, 2**62, True, "", "r", "INPUT0", 0.5]
)
_NAMES = st.sampled_from(
    [
        *("classification", "shared_memory_region", "shared_memory_byte_size", "timeout"),
        *("shared_memory_offset", "sequence_id", "sequence_start", "priority", "triton_x"),
        *("binary_data_size", "triton_enable_empty_final_response"),
    ]
)
_SHAPES = st.lists(st.integers(-2, 5) | st.sampled_from([2**31, 2**62, -(2**63)]), max_size=4)
_CONTENTS = st.dictionaries(
    st.sampled_from(["fp32_contents", "int_contents", "bool_contents", "uint64_contents"]),
    st.lists(st.integers(0, 1), max_size=5),
    max_size=2,
)


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    """A request that is nearly right, as bytes; some of them damaged."""
    inputs = [
        input_tensor(
            draw(st.sampled_from(["INPUT0", "IN", "", "é"])),
            draw(st.sampled_from(["FP32", "BYTES", "BF16", "INT32", "", "x"])),
            draw(_SHAPES),
            draw(_CONTENTS),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    for tensor in inputs:
        for name, value in draw(st.dictionaries(_NAMES, _SCALARS, max_size=2)).items():
            kind = {bool: "bool_param", int: "int64_param", str: "string_param"}
            setattr(tensor.parameters[name], kind.get(type(value), "double_param"), value)
    message: Any = infer_request(
        draw(st.sampled_from(["numbers", "batches", "texts", "python", "square", "nope", ""])),
        inputs,
        draw(st.lists(st.binary(max_size=20), max_size=3)),
        draw(st.dictionaries(st.sampled_from(["OUTPUT0", "OUT", ""]), st.just({}), max_size=2)),
        draw(st.dictionaries(_NAMES, _SCALARS, max_size=3)),
        model_version=draw(st.sampled_from(["", "1", "9", "x", "-1", "9" * 30])),
        id=draw(st.text(max_size=5)),
    )
    data = bytes(message.SerializeToString())
    if draw(st.booleans()):
        place = draw(st.integers(0, len(data)))
        piece = draw(st.binary(max_size=4))
        data = data[:place] + piece + data[place + draw(st.integers(0, 5)) :]
    return data


def _frames() -> st.SearchStrategy[bytes]:
    """HTTP/2 frames of any type with wrong lengths, flags and streams."""

    def frame(kind: int, flags: int, stream: int, payload: bytes, lie: int) -> bytes:
        length = max(0, len(payload) + lie)
        return (
            length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
        )

    made = st.builds(
        frame,
        st.integers(0, 12),
        st.integers(0, 255) | st.sampled_from([0, 1, 4, 5]),
        st.integers(0, 5) | st.integers(0, 2**31),
        st.binary(max_size=30) | st.sampled_from([_LIVE, _MESSAGE]),
        st.sampled_from([0, 0, 0, 1, -1, 2**20]),
    )
    preface = st.sampled_from([_PREFACE] * 4 + [b"", b"GET / HTTP/1.1\r\n\r\n"])
    return st.tuples(preface, st.lists(made, max_size=6)).map(lambda p: p[0] + b"".join(p[1]))


def _refused(error: grpc.RpcError) -> None:
    code, details = error.code(), error.details() or ""
    assert code not in _UNEXPECTED, (code, details)
    if code is grpc.StatusCode.INTERNAL:
        assert details.startswith(_TRITONS_INTERNAL), details


def test_malformed_messages_are_refused_and_harm_nobody(
    server: RunningServer, ask_nonsense: Callable[[Callable[[], None]], None]
) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.grpc, options=options) as channel:

        @settings(settings.get_profile("fuzz"))
        @given(st.sampled_from(_CALLS), _messages(), st.binary(max_size=40), st.booleans())
        def ask(call: str, message: bytes, junk: bytes, stream: bool) -> None:
            data = message if call == "ModelInfer" else junk
            try:
                if call == "ModelInfer" and stream:
                    path = f"{_SERVICE}ModelStreamInfer"
                    list(channel.stream_stream(path)(iter([data, data]), timeout=30))
                else:
                    channel.unary_unary(_SERVICE + call)(data, timeout=30)
            except grpc.RpcError as error:
                _refused(error)

        ask_nonsense(ask)


def test_broken_frames_end_their_connection_and_harm_nobody(
    server: RunningServer, ask_nonsense: Callable[[Callable[[], None]], None]
) -> None:
    @settings(settings.get_profile("fuzz"))
    @given(_frames())
    def ask(frames: bytes) -> None:
        with closing(connect(server, "grpc")) as connection:
            try:
                connection.sendall(frames)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except ConnectionError:
                pass

    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        live = channel.unary_unary(f"{_SERVICE}ServerLive")
        assert live(b"", timeout=30)
        lost: list[grpc.ChannelConnectivity] = []
        channel.subscribe(lost.append)
        ask_nonsense(ask)
        assert live(b"", timeout=30)
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in lost
