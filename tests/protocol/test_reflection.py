"""Reflection on the gRPC port: what its clients learn, and that it is off unless asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2 as alpha
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from support import models
from support.clients import TIMEOUT
from support.servers import RunningServer, serving

INFERENCE = "inference.GRPCInferenceService"
PATHS = [
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    models.identity(folder, "plain")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serving(repository, arguments=["--grpc-reflection=true"]) as running:
        yield running


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def ask(
    channel: grpc.Channel, path: str, *requests: alpha.ServerReflectionRequest
) -> list[alpha.ServerReflectionResponse]:
    call = channel.stream_stream(
        path,
        request_serializer=alpha.ServerReflectionRequest.SerializeToString,
        response_deserializer=alpha.ServerReflectionResponse.FromString,
    )
    return list(call(iter(requests), timeout=TIMEOUT))


def test_a_call_can_be_made_by_what_reflection_tells_alone(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert INFERENCE in database.get_services()
    service = DescriptorPool(database).FindServiceByName(INFERENCE)
    method = service.FindMethodByName("ModelMetadata")
    request = GetMessageClass(method.input_type)(name="plain")
    call = channel.unary_unary(
        f"/{INFERENCE}/ModelMetadata",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    assert call(request, timeout=TIMEOUT).inputs[0].name == "INPUT0"


@pytest.mark.parametrize("path", PATHS)
def test_every_listed_service_is_described(channel: grpc.Channel, path: str) -> None:
    (listed,) = ask(channel, path, alpha.ServerReflectionRequest(list_services="*"))
    names = [service.name for service in listed.list_services_response.service]
    assert names == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        INFERENCE,
    ]
    answers = ask(
        channel, path, *(alpha.ServerReflectionRequest(file_containing_symbol=n) for n in names)
    )
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in answers)


@pytest.mark.parametrize("path", PATHS)
def test_files_come_with_what_they_import(channel: grpc.Channel, path: str) -> None:
    by_name = alpha.ServerReflectionRequest(file_by_filename="grpc_service.proto")
    by_symbol = alpha.ServerReflectionRequest(file_containing_symbol="inference.ModelInferRequest")
    first, second = ask(channel, path, by_name, by_symbol)
    assert len(first.file_descriptor_response.file_descriptor_proto) == 2
    assert first.file_descriptor_response == second.file_descriptor_response
    assert first.original_request == by_name


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"file_by_filename": "nope.proto"}, 5),
        ({"file_containing_symbol": "no.Such"}, 5),
        ({"file_containing_symbol": ""}, 5),
        ({"all_extension_numbers_of_type": "no.Such"}, 5),
        (
            {
                "file_containing_extension": {
                    "containing_type": "inference.ModelInferRequest",
                    "extension_number": 1,
                }
            },
            5,
        ),
        ({}, 3),
    ],
)
def test_what_does_not_exist_is_an_error_and_the_stream_goes_on(
    channel: grpc.Channel, request_: dict[str, object], code: int
) -> None:
    wrong = alpha.ServerReflectionRequest(**request_)
    right = alpha.ServerReflectionRequest(list_services="")
    first, second = ask(channel, PATHS[0], wrong, right)
    assert first.error_response.error_code == code
    assert first.error_response.error_message
    assert second.list_services_response.service


def test_our_messages_have_no_extensions(channel: grpc.Channel) -> None:
    name = "inference.ModelInferRequest"
    request = alpha.ServerReflectionRequest(all_extension_numbers_of_type=name)
    (answer,) = ask(channel, PATHS[0], request)
    assert answer.all_extension_numbers_response.base_type_name == name
    assert not answer.all_extension_numbers_response.extension_number


def test_bytes_that_are_no_request_end_the_stream(channel: grpc.Channel) -> None:
    call = channel.stream_stream(PATHS[0])
    with pytest.raises(grpc.RpcError) as raised:
        list(call(iter([b"\xff"]), timeout=TIMEOUT))
    assert raised.value.code() is grpc.StatusCode.INTERNAL


def test_an_idle_stream_of_reflection_does_not_hold_up_the_end(repository: Path) -> None:
    requests = SimpleQueue[bytes | None]()
    requests.put(alpha.ServerReflectionRequest(list_services="").SerializeToString())
    with (
        serving(repository, arguments=["--grpc-reflection=true"]) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        call = channel.stream_stream(PATHS[0])(iter(requests.get, None))
        assert next(call)
        assert server.stop() == 0
        requests.put(None)


def test_reflection_is_restricted_as_metadata_are(repository: Path) -> None:
    arguments = ["--grpc-reflection=true", "--grpc-restricted-protocol=metadata:key=secret"]
    request = alpha.ServerReflectionRequest(list_services="").SerializeToString()
    with (
        serving(repository, arguments=arguments) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        for path in PATHS:
            call = channel.stream_stream(path)
            with pytest.raises(grpc.RpcError) as raised:
                list(call(iter([request]), timeout=TIMEOUT))
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            metadata = [("triton-grpc-protocol-key", "secret")]
            assert list(call(iter([request]), metadata=metadata, timeout=TIMEOUT))


def test_nothing_is_told_unasked(repository: Path) -> None:
    with serving(repository) as plain, grpc.insecure_channel(plain.grpc) as channel:
        for path in PATHS:
            with pytest.raises(grpc.RpcError) as raised:
                ask(channel, path, alpha.ServerReflectionRequest(list_services=""))
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
