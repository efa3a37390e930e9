"""Compression over gRPC: of inference responses where it is switched on, and of any request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import models
from support.clients import TIMEOUT, infer_request, input_tensor
from support.proxy import Proxy, proxy
from support.servers import RunningServer, serving
from support.transports import each_transport_for_all, option
from tritonclient.grpc import service_pb2, service_pb2_grpc

pytestmark = each_transport_for_all

#: Zeros, which compress well.
SIZE = 1_000_000
SMALL = SIZE // 50
LONG = "x" * 20_000


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    models.identity(folder, "plain", "TYPE_UINT8")
    with (folder / "plain" / "config.pbtxt").open("a") as config:
        config.write(f'parameters {{ key: "long" value {{ string_value: "{LONG}" }} }}')
    return folder


@pytest.fixture(scope="module")
def plain(repository: Path, transport: str) -> Iterator[RunningServer]:
    with serving(repository, arguments=[option(transport)]) as running:
        yield running


@pytest.fixture(scope="module", params=["low", "medium", "high"])
def compressing(
    repository: Path, request: pytest.FixtureRequest, transport: str
) -> Iterator[RunningServer]:
    argument = f"--grpc-infer-response-compression-level={request.param}"
    with serving(repository, arguments=[argument, option(transport)]) as running:
        yield running


@contextmanager
def counted(server: RunningServer, *options: tuple[str, int]) -> Iterator[tuple[Any, Proxy]]:
    """The service's stub on a channel that is counted."""
    with proxy(server.grpc) as between:
        more = [("grpc.use_local_subchannel_pool", 1), *options]
        with grpc.insecure_channel(between.address, options=more) as channel:
            yield service_pb2_grpc.GRPCInferenceServiceStub(channel), between


def zeros() -> Any:
    return infer_request("plain", [input_tensor("INPUT0", "UINT8", [SIZE])], [bytes(SIZE)])


def content(response: Any) -> bytes:
    (data,) = response.raw_output_contents
    return bytes(data)


def test_responses_are_compressed(compressing: RunningServer) -> None:
    with counted(compressing) as (stub, between):
        assert content(stub.ModelInfer(zeros(), timeout=TIMEOUT)) == bytes(SIZE)
        assert between.answered < SMALL


def test_streamed_responses_are_compressed(compressing: RunningServer) -> None:
    with counted(compressing) as (stub, between):
        answers = list(stub.ModelStreamInfer(iter([zeros(), zeros()]), timeout=TIMEOUT))
        assert [content(answer.infer_response) for answer in answers] == [bytes(SIZE)] * 2
        assert between.answered < SMALL


def test_a_client_that_cannot_decompress_gets_them_as_they_are(compressing: RunningServer) -> None:
    # The bit of the identity: no other algorithm is enabled.
    with counted(compressing, ("grpc.compression_enabled_algorithms_bitset", 1)) as (stub, between):
        assert content(stub.ModelInfer(zeros(), timeout=TIMEOUT)) == bytes(SIZE)
        assert between.answered > SIZE


def test_nothing_is_compressed_unasked(plain: RunningServer) -> None:
    with counted(plain) as (stub, between):
        assert content(stub.ModelInfer(zeros(), timeout=TIMEOUT)) == bytes(SIZE)
        assert between.answered > SIZE


def test_other_answers_stay_as_they_are(compressing: RunningServer) -> None:
    with counted(compressing) as (stub, between):
        answer = stub.ModelConfig(service_pb2.ModelConfigRequest(name="plain"), timeout=TIMEOUT)
        assert answer.config.parameters["long"].string_value == LONG
        assert between.answered > len(LONG)


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_requests_may_be_compressed(plain: RunningServer, algorithm: grpc.Compression) -> None:
    with counted(plain) as (stub, between):
        answer = stub.ModelInfer(zeros(), timeout=TIMEOUT, compression=algorithm)
        assert content(answer) == bytes(SIZE)
        streamed = stub.ModelStreamInfer(iter([zeros()]), timeout=TIMEOUT, compression=algorithm)
        assert [content(one.infer_response) for one in streamed] == [bytes(SIZE)]
        assert between.requested < SMALL
