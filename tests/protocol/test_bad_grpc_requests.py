"""Whatever comes over gRPC is answered in Triton's words, and nothing breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from support import models
from support.clients import (
    TIMEOUT,
    grpc_error,
    grpc_stub,
    infer_request,
    input_tensor,
    unharmed,
)
from support.servers import RunningServer, serving
from tritonclient.grpc import service_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
FOUR = np.arange(4, dtype=np.float32).tobytes()
UNNAMED = "[request id: <id_unknown>] "
Request = Any


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", dims=[4])
    models.identity(repository, "free", dims=[-1, -1])
    models.identity(repository, "strings", "TYPE_STRING")
    models.identity(repository, "halves", "TYPE_FP16")
    models.identity(repository, "bytes", "TYPE_INT8")
    models.identity_pair(repository, "pair")
    models.repeat(repository, "repeat")
    with serving(repository) as running, unharmed(running):
        yield running


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[Any]:
    with grpc_stub(server) as stub:
        yield stub


def plain(*raw: bytes, **changes: Any) -> Request:
    """A request to the model 'plain'."""
    return infer_request("plain", [input_tensor(**changes)], raw)


TYPED = {"fp32_contents": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (
            infer_request("nope", [input_tensor()], [FOUR]),
            "NOT_FOUND",
            "Request for unknown model: 'nope' is not found",
        ),
        (
            infer_request("", [input_tensor()], [FOUR]),
            "NOT_FOUND",
            "Request for unknown model: '' is not found",
        ),
        (
            infer_request("plain", [input_tensor()], [FOUR], model_version="9"),
            "NOT_FOUND",
            "Request for unknown model: 'plain' version 9 is not found",
        ),
        (
            infer_request("plain", [input_tensor()], [FOUR], model_version="x"),
            "INVALID_ARGUMENT",
            "failed to get model version from specified version string 'x' (details: stol), "
            "version should be an integral value > 0",
        ),
        (
            infer_request("plain", [input_tensor()], [FOUR], model_version="-1"),
            "INVALID_ARGUMENT",
            "invalid model version specified '-1' , version should be an integral value > 0",
        ),
        (
            infer_request("repeat", []),
            "UNIMPLEMENTED",
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
        ),
    ],
)
def test_a_model_that_is_not_there_is_told(
    stub: Any, request_: Request, status: str, message: str
) -> None:
    assert grpc_error(partial(stub.ModelInfer, request_)) == (status, message)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            infer_request("plain", [input_tensor(shape=[2])], [FOUR[:8]], id="q"),
            "[request id: q] unexpected shape for input 'INPUT0' for model 'plain'. "
            "Expected [4], got [2]. ",
        ),
        (
            plain(FOUR, shape=[-1]),
            f"{UNNAMED}All input dimensions should be specified for input 'INPUT0' for model "
            "'plain', got [-1]",
        ),
        (
            infer_request("free", [input_tensor(shape=[-1, -4])], [FOUR]),
            f"{UNNAMED}All input dimensions should be specified for input 'INPUT0' for model "
            "'free', got [-1,-4]",
        ),
        (
            infer_request(
                "pair",
                [input_tensor(shape=[-1, 2]), input_tensor("INPUT1", "INT32", [1, 1])],
                [FOUR[:8], FOUR[:4]],
            ),
            f"{UNNAMED}All input dimensions should be specified for input 'INPUT0' for model "
            "'pair', got [-1,2]",
        ),
        (
            plain(FOUR, datatype="INT32"),
            f"{UNNAMED}inference input 'INPUT0' data-type is 'INT32', but model 'plain' expects "
            "'FP32'",
        ),
        (
            plain(FOUR, datatype="FLOAT"),
            f"{UNNAMED}inference input 'INPUT0' data-type is '<invalid>', but model 'plain' "
            "expects 'FP32'",
        ),
        (
            plain(FOUR, datatype=""),
            f"{UNNAMED}inference input 'INPUT0' data-type is '<invalid>', but model 'plain' "
            "expects 'FP32'",
        ),
        (plain(FOUR, name="X"), "unexpected inference input 'X' for model 'plain'"),
        (
            infer_request("plain", [input_tensor()], [FOUR], ["X"]),
            "unexpected inference output 'X' for model 'plain'",
        ),
        (
            infer_request("plain", []),
            f"{UNNAMED}expected 1 inputs but got 0 inputs for model 'plain'. Got input(s) [], but "
            "missing required input(s) ['INPUT0']. Please provide all required input(s).",
        ),
        (
            infer_request("plain", [input_tensor(), input_tensor()], [FOUR, FOUR]),
            f"{UNNAMED}input 'INPUT0' already exists in request",
        ),
        (
            infer_request("pair", [input_tensor(shape=[1, 2])] * 2, [FOUR[:8]] * 2),
            f"{UNNAMED}input 'INPUT0' already exists in request",
        ),
        (
            infer_request(
                "pair",
                [input_tensor(shape=[5, 2]), input_tensor("INPUT1", "INT32", [5, 0])],
                [FOUR * 2 + FOUR[:8], b""],
            ),
            f"{UNNAMED}inference request batch-size must be <= 4 for 'pair'",
        ),
        (
            infer_request("free", [input_tensor(shape=[0, 2**62])], [b""]),
            f"{UNNAMED}invalid shape for input 'INPUT0' for model 'free': shape "
            "[0,4611686018427387904] exceeds the maximum size of 9223372036854775807",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(stub: Any, request_: Request, message: str) -> None:
    assert grpc_error(partial(stub.ModelInfer, request_)) == ("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            plain(),
            "unable to find data for input tensor 'INPUT0' for model 'plain' in request.",
        ),
        (
            plain(shape=[0]),
            "unable to find data for input tensor 'INPUT0' for model 'plain' in request.",
        ),
        (
            plain(b""),
            f"{UNNAMED}input byte size mismatch for input 'INPUT0' for model 'plain'. "
            "Expected 16, got 0",
        ),
        (
            plain(FOUR[:8]),
            f"{UNNAMED}input byte size mismatch for input 'INPUT0' for model 'plain'. "
            "Expected 16, got 8",
        ),
        (
            plain(FOUR * 10_000),
            f"{UNNAMED}input byte size mismatch for input 'INPUT0' for model 'plain'. "
            "Expected 16, got 160000",
        ),
        (
            plain(contents={"fp32_contents": [1, 2, 3]}),
            f"{UNNAMED}input byte size mismatch for input 'INPUT0' for model 'plain'. "
            "Expected 16, got 12",
        ),
        (
            plain(contents={"fp32_contents": [1, 2, 3, 4, 5]}),
            f"{UNNAMED}input byte size mismatch for input 'INPUT0' for model 'plain'. "
            "Expected 16, got 20",
        ),
        (
            plain(contents={"int_contents": [1, 2, 3, 4]}),
            "unexpected explicit tensor data for input tensor 'INPUT0' for model 'plain' of type "
            "'INT32', expected datatype 'FP32'",
        ),
        (
            plain(contents={"int_contents": [1], **TYPED}),
            "unexpected explicit tensor data for input tensor 'INPUT0' for model 'plain' of type "
            "'INT32', expected datatype 'FP32'",
        ),
        (
            plain(datatype="FLOAT", contents=TYPED),
            "unexpected explicit tensor data for input tensor 'INPUT0' for model 'plain' of type "
            "'FP32', expected datatype '<invalid>'",
        ),
        (
            plain(FOUR, contents=TYPED),
            "contents field must not be specified when using raw_input_contents for 'INPUT0' for "
            "model 'plain'",
        ),
        (
            infer_request("halves", [input_tensor(datatype="FP16", contents=TYPED)]),
            "unexpected explicit tensor data for input tensor 'INPUT0' for model 'halves' of type "
            "'FP32', expected datatype 'FP16'",
        ),
        (
            infer_request(
                "pair",
                [input_tensor(shape=[2, 2]), input_tensor("INPUT1", "INT32", [2, 2])],
                [FOUR],
            ),
            "unable to find data for input tensor 'INPUT1' for model 'pair' in request.",
        ),
        (
            infer_request(
                "strings", [input_tensor(datatype="BYTES", shape=[2])], [b"\1\0\0\0a\3\0\0\0b"]
            ),
            "incomplete string data for inference input 'INPUT0', expecting string of length 3 but "
            "only 1 bytes available",
        ),
        (
            infer_request(
                "strings",
                [input_tensor(datatype="BYTES", shape=[2], contents={"bytes_contents": [b"a"]})],
                id="b",
            ),
            "[request id: b] expected 2 string elements for inference input 'INPUT0' for model "
            "'strings', got 1",
        ),
        (
            infer_request(
                "strings",
                [
                    input_tensor(
                        datatype="BYTES", shape=[1], contents={"bytes_contents": [b"a", b"b"]}
                    )
                ],
            ),
            f"{UNNAMED}unexpected number of string elements 2 for inference input 'INPUT0' for "
            "model 'strings', expecting 1",
        ),
    ],
)
def test_data_that_are_missing_or_wrong_are_refused(
    stub: Any, request_: Request, message: str
) -> None:
    assert grpc_error(partial(stub.ModelInfer, request_)) == ("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"triton_x": 1},
            "parameter keys starting with 'triton_' are reserved for Triton usage. Only the "
            "following keys starting with 'triton_' are allowed: "
            "triton_enable_empty_final_response",
        ),
        (
            {"sequence_id": True},
            "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
        ),
        (
            {"sequence_start": 1},
            "invalid value type for 'sequence_start' parameter, expected bool_param.",
        ),
        ({"priority": -1}, "invalid value for 'priority', expected value >= 0."),
        (
            {"priority": "x"},
            "invalid value type for 'priority' parameter, expected int64_param or uint64_param.",
        ),
        ({"timeout": "x"}, "invalid value type for 'timeout' parameter, expected int64_param."),
    ],
)
def test_wrong_parameters_are_refused(stub: Any, parameters: dict[str, Any], message: str) -> None:
    request = infer_request("plain", [input_tensor()], [FOUR], parameters=parameters)
    assert grpc_error(partial(stub.ModelInfer, request)) == ("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("classification", "message"),
    [
        (0, "invalid value for 'classification' parameter, expected >= 0"),
        ("x", "invalid value type for 'classification' parameter, expected int64_param"),
    ],
)
def test_a_wrong_number_of_classes_is_refused(
    stub: Any, classification: int | str, message: str
) -> None:
    outputs = {"OUTPUT0": {"classification": classification}}
    request = infer_request("plain", [input_tensor()], [FOUR], outputs)
    assert grpc_error(partial(stub.ModelInfer, request)) == ("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (
            lambda stub: stub.ModelReady(pb.ModelReadyRequest(name="nope")),
            "NOT_FOUND",
            "Request for unknown model: 'nope' is not found",
        ),
        (
            lambda stub: stub.ModelMetadata(pb.ModelMetadataRequest(name="plain", version="7")),
            "NOT_FOUND",
            "Request for unknown model: 'plain' version 7 is not found",
        ),
        (
            lambda stub: stub.ModelConfig(pb.ModelConfigRequest(name="nope")),
            "NOT_FOUND",
            "Request for unknown model: 'nope' is not found",
        ),
        (
            lambda stub: stub.ModelStatistics(pb.ModelStatisticsRequest(name="nope")),
            "INVALID_ARGUMENT",
            "requested model 'nope' is not available",
        ),
        (
            lambda stub: stub.ModelStatistics(pb.ModelStatisticsRequest(name="plain", version="7")),
            "INVALID_ARGUMENT",
            "requested model version is not available for model 'plain'",
        ),
        (
            lambda stub: stub.RepositoryIndex(pb.RepositoryIndexRequest(repository_name="r")),
            "UNIMPLEMENTED",
            "'repository_name' specification is not supported",
        ),
    ],
)
def test_questions_about_what_is_not_there_are_refused(
    stub: Any, call: Callable[[Any], object], status: str, message: str
) -> None:
    assert grpc_error(partial(call, stub)) == (status, message)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\xff", b"\x3a\xff\xff\xff\xff\x0f"])
@pytest.mark.parametrize("call", ["ModelInfer", "ModelMetadata", "RepositoryModelLoad"])
def test_bytes_that_are_no_message_are_refused(
    server: RunningServer, call: str, data: bytes
) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        method = channel.unary_unary(SERVICE + call)
        assert grpc_error(partial(method, data, timeout=TIMEOUT)) == (
            "INTERNAL",
            "Unable to parse request",
        )


def test_a_call_that_does_not_exist_is_unimplemented(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        status, _ = grpc_error(partial(channel.unary_unary(SERVICE + "Nope"), b"", timeout=TIMEOUT))
        assert status == "UNIMPLEMENTED"


def test_errors_on_a_stream_belong_to_their_requests_and_leave_it_open(stub: Any) -> None:
    requests = [
        infer_request("plain", [input_tensor()], [FOUR], id="good"),
        infer_request("plain", [input_tensor(shape=[2])], [FOUR[:8]], id="shape"),
        infer_request("nope", [input_tensor()], [FOUR], id="unknown"),
        infer_request("plain", [input_tensor()], id="no data"),
        infer_request("strings", [input_tensor(datatype="BYTES", shape=[2])], [b"\1"], id="cut"),
        infer_request("plain", [input_tensor()], [FOUR], id="last"),
    ]

    answers = list(stub.ModelStreamInfer(iter(requests), timeout=TIMEOUT))

    assert [answer.infer_response.id for answer in answers] == [one.id for one in requests]
    errors = [answer.error_message for answer in answers]
    assert errors[0] == errors[5] == ""
    assert errors[1].startswith("[request id: shape] unexpected shape for input 'INPUT0'")
    assert errors[2] == "Request for unknown model: 'nope' is not found"
    assert errors[3].startswith("unable to find data for input tensor 'INPUT0'")
    assert errors[4].startswith("[request id: cut] incomplete string length indicator for")
    assert answers[5].infer_response.raw_output_contents[0] == FOUR


def test_a_client_may_have_the_first_error_end_its_stream(stub: Any) -> None:
    requests = [
        infer_request("plain", [input_tensor()], [FOUR], id="good"),
        infer_request("nope", [input_tensor()], [FOUR], id="unknown"),
        infer_request("plain", [input_tensor()], [FOUR], id="never"),
    ]
    stream = stub.ModelStreamInfer(
        iter(requests), timeout=TIMEOUT, metadata=[("triton_grpc_error", "true")]
    )

    assert next(stream).infer_response.id == "good"
    assert grpc_error(partial(next, stream)) == (
        "NOT_FOUND",
        "Request for unknown model: 'nope' is not found",
    )
