"""The unary calls, asked by Triton's own client over a real connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc.aio as tritonclient
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException
from unit.supervisor.grpc.planes import FakeControlPlane, FakeDataPlane, echo

from tritonpy.ipc import errors
from tritonpy.supervisor.grpc.service import STREAM_PATH, InferenceService

pytestmark = pytest.mark.anyio

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


def infer_input(values: Any, datatype: str = "FP32", name: str = "INPUT0") -> Any:
    tensor = tritonclient.InferInput(name, list(values.shape), datatype)
    return tensor.set_data_from_numpy(values)


async def test_every_call_of_the_protocol_is_answered(
    dataplane: Any, controlplane: Any, channel: grpc.aio.Channel
) -> None:
    calls = InferenceService(dataplane, controlplane).unary_calls()

    assert {*calls, STREAM_PATH} == {
        f"/{SERVICE.full_name}/{name}" for name in SERVICE.methods_by_name
    }
    for path in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path)(b"\xff")
        refusal = caught.value.code(), caught.value.details()
        assert refusal[0] is grpc.StatusCode.UNIMPLEMENTED or refusal == (
            grpc.StatusCode.INTERNAL,
            "Unable to parse request",
        )
        assert refusal[1] != "Method not found!"
        assert "Method not found" not in str(caught.value.details())


async def test_health_is_the_controlplanes(
    client: tritonclient.InferenceServerClient, controlplane: FakeControlPlane
) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("identity", "1")
    controlplane.ready = False
    assert await client.is_server_live()
    assert not await client.is_server_ready()
    assert not await client.is_model_ready("identity")
    with pytest.raises(InferenceServerException, match="unknown model: 'x' is not found") as caught:
        await client.is_model_ready("x")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


async def test_metadata_says_what_server_and_model_are(
    client: tritonclient.InferenceServerClient,
) -> None:
    server = await client.get_server_metadata(as_json=True)
    model = await client.get_model_metadata("identity", as_json=True)
    one = await client.get_model_metadata("identity", "2")

    assert server == {"name": "triton", "version": "2.73.0", "extensions": ["statistics", "trace"]}
    assert model["versions"] == ["1", "2"]
    assert model["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": ["-1", "-1"]}]
    assert model["outputs"] == [{"name": "OUTPUT0", "datatype": "BYTES", "shape": ["-1", "4"]}]
    assert list(one.versions) == ["2"]


async def test_the_configuration_arrives_as_the_clients_message(
    client: tritonclient.InferenceServerClient,
) -> None:
    response = await client.get_model_config("identity")

    assert response.config.name == "identity"
    assert response.config.max_batch_size == 8
    assert response.config.input[0].dims == [-1]
    assert response.config.input[0].data_type == 11  # TYPE_FP32


async def test_statistics_arrive_field_by_field(
    client: tritonclient.InferenceServerClient,
) -> None:
    response = await client.get_inference_statistics("identity", "3")

    (statistics,) = response.model_stats
    assert (statistics.name, statistics.version) == ("identity", "3")
    assert (statistics.last_inference, statistics.inference_count) == (5, 4)
    assert statistics.execution_count == 1
    assert (statistics.inference_stats.success.count, statistics.inference_stats.success.ns) == (
        1,
        100,
    )
    assert statistics.inference_stats.fail.ns == 7
    assert statistics.inference_stats.compute_output.ns == 80
    assert statistics.batch_stats[0].batch_size == 4
    assert statistics.batch_stats[0].compute_infer.ns == 30
    assert statistics.response_stats["0"].success.ns == 23


async def test_the_index_lists_all_models_or_the_ready_ones(channel: grpc.aio.Channel) -> None:
    index = channel.unary_unary(
        f"/{SERVICE.full_name}/RepositoryIndex",
        service_pb2.RepositoryIndexRequest.SerializeToString,
        service_pb2.RepositoryIndexResponse.FromString,
    )

    everything = await index(service_pb2.RepositoryIndexRequest())
    ready = await index(service_pb2.RepositoryIndexRequest(ready=True))

    assert [model.name for model in everything.models] == ["identity", "new"]
    assert everything.models[0].state == "READY"
    assert everything.models[1].version == ""
    assert [model.name for model in ready.models] == ["identity"]
    with pytest.raises(grpc.aio.AioRpcError, match="'repository_name' specification is not supp"):
        await index(service_pb2.RepositoryIndexRequest(repository_name="r"))


async def test_load_and_unload_pass_their_parameters_on(
    client: tritonclient.InferenceServerClient, controlplane: FakeControlPlane
) -> None:
    await client.load_model("identity")
    await client.load_model("m", config="{}", files={"file:1/model.onnx": b"\x00\xff"})
    await client.unload_model("m")
    await client.unload_model("m", unload_dependents=True)

    assert controlplane.loads == [
        ("identity", {}),
        ("m", {"config": "{}", "file:1/model.onnx": b"\x00\xff"}),
    ]
    assert controlplane.unloads == [("m", False), ("m", True)]


async def test_wrong_load_and_unload_parameters_are_refused(
    channel: grpc.aio.Channel, controlplane: FakeControlPlane
) -> None:
    load = channel.unary_unary(
        f"/{SERVICE.full_name}/RepositoryModelLoad",
        service_pb2.RepositoryModelLoadRequest.SerializeToString,
    )
    unload = channel.unary_unary(
        f"/{SERVICE.full_name}/RepositoryModelUnload",
        service_pb2.RepositoryModelUnloadRequest.SerializeToString,
    )
    parameter = service_pb2.ModelRepositoryParameter

    for call, message, expected in [
        (
            load,
            service_pb2.RepositoryModelLoadRequest(parameters={"x": parameter(int64_param=1)}),
            "unrecognized load parameter 'x'.",
        ),
        (
            load,
            service_pb2.RepositoryModelLoadRequest(
                parameters={"config": parameter(bytes_param=b"")}
            ),
            "invalid value type for load parameter 'config', expected string_param.",
        ),
        (
            load,
            service_pb2.RepositoryModelLoadRequest(
                parameters={"file:a": parameter(string_param="")}
            ),
            "invalid value type for load parameter 'file:a', expected bytes_param.",
        ),
        (
            unload,
            service_pb2.RepositoryModelUnloadRequest(
                parameters={"unload_dependents": parameter(string_param="yes")}
            ),
            "invalid value type for 'unload_dependents' parameter, expected bool_param.",
        ),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(message)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == expected
    assert not controlplane.loads
    assert not controlplane.unloads


@pytest.mark.parametrize("count", [1, 100, 4096, 5000, 1_000_000])
async def test_a_tensor_comes_back_as_it_was_sent(
    count: int, client: tritonclient.InferenceServerClient, dataplane: FakeDataPlane
) -> None:
    values = np.arange(count, dtype=np.float32).reshape(1, count)

    result = await client.infer("identity", [infer_input(values)], request_id="r1")

    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values)
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("identity", "1", "r1")
    (request,) = dataplane.requests
    assert request.version is None
    assert len(request.leases) == len(dataplane.leases) == (1 if values.nbytes > 16 * 1024 else 0)


async def test_requested_outputs_and_parameters_reach_the_dataplane(
    client: tritonclient.InferenceServerClient, dataplane: FakeDataPlane
) -> None:
    await client.infer(
        "identity",
        [infer_input(np.zeros((1, 2), np.float32))],
        model_version="1",
        outputs=[
            tritonclient.InferRequestedOutput("OUTPUT0", class_count=3),
            tritonclient.InferRequestedOutput("OUTPUT1"),
        ],
        sequence_id=7,
        sequence_start=True,
        priority=2,
        timeout=1000,
        parameters={"s": "text", "b": True, "i": -5, "f": 0.5},
    )

    (request,) = dataplane.requests
    assert request.version == 1
    assert [(output.name, output.classification) for output in request.outputs] == [
        ("OUTPUT0", 3),
        ("OUTPUT1", 0),
    ]
    assert (request.correlation_id, request.flags) == (7, 1)
    assert (request.priority, request.timeout_us) == (2, 1000)
    assert request.parameters == {"s": "text", "b": True, "i": -5, "f": 0.5}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnknownError("m"), grpc.StatusCode.UNKNOWN),
        (errors.InternalError("m"), grpc.StatusCode.INTERNAL),
        (errors.NotFoundError("m"), grpc.StatusCode.NOT_FOUND),
        (errors.InvalidArgumentError("m"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.UnavailableError("m"), grpc.StatusCode.UNAVAILABLE),
        (errors.UnsupportedError("m"), grpc.StatusCode.UNIMPLEMENTED),
        (errors.AlreadyExistsError("m"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.CancelledError("m"), grpc.StatusCode.CANCELLED),
    ],
)
async def test_each_of_tritons_codes_has_its_status(
    error: errors.StatusError,
    status: grpc.StatusCode,
    channel: grpc.aio.Channel,
    controlplane: FakeControlPlane,
) -> None:
    controlplane.load_error = error

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(f"/{SERVICE.full_name}/RepositoryModelLoad")(b"")

    assert caught.value.code() is status
    assert caught.value.details() == "m"


async def test_a_fault_of_the_server_is_logged_and_not_shown(
    client: tritonclient.InferenceServerClient,
    controlplane: FakeControlPlane,
    caplog: pytest.LogCaptureFixture,
) -> None:
    controlplane.load_error = ValueError("a secret of the server")

    with pytest.raises(InferenceServerException) as caught:
        await client.load_model("m")

    assert caught.value.status() == "StatusCode.INTERNAL"
    assert caught.value.message() == "unexpected error in RepositoryModelLoad, see the server's log"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a secret of the server" in caplog.text
    assert await client.is_server_live()


async def test_a_message_too_long_for_a_trailer_is_cut(
    client: tritonclient.InferenceServerClient, controlplane: FakeControlPlane
) -> None:
    for character in ("x", "\n", "é", "%"):
        controlplane.load_error = errors.InternalError(character * 100_000)
        with pytest.raises(InferenceServerException) as caught:
            await client.load_model("m")
        assert caught.value.status() == "StatusCode.INTERNAL"
        assert caught.value.message().startswith(character * 500)
        assert caught.value.message().endswith("...")


async def test_an_unknown_model_or_version_is_not_found(
    client: tritonclient.InferenceServerClient,
) -> None:
    tensor = infer_input(np.zeros((1, 2), np.float32))

    with pytest.raises(InferenceServerException, match="unknown model: 'x' is not found") as caught:
        await client.infer("x", [tensor])
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="'identity' version 9 is not found"):
        await client.infer("identity", [tensor], model_version="9")
    with pytest.raises(InferenceServerException, match="version string 'one'") as caught:
        await client.infer("identity", [tensor], model_version="one")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_a_decoupled_model_is_refused_outside_of_streams(
    client: tritonclient.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException, match="ModelInfer RPC doesn't support") as caught:
        await client.infer("decoupled", [infer_input(np.zeros((1, 2), np.float32))])
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


async def test_bytes_that_are_no_message_are_refused(channel: grpc.aio.Channel) -> None:
    for call in ("ModelInfer", "ModelConfig"):
        with pytest.raises(grpc.aio.AioRpcError, match="Unable to parse request") as caught:
            await channel.unary_unary(f"/{SERVICE.full_name}/{call}")(b"\x3a\xff")
        assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_client_that_goes_away_cancels_its_request(
    channel: grpc.aio.Channel, dataplane: FakeDataPlane
) -> None:
    cancelled = asyncio.Event()

    async def wait_for_ever(request: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    dataplane.answer = wait_for_ever
    call = channel.unary_unary(f"/{SERVICE.full_name}/ModelInfer")(
        service_pb2.ModelInferRequest(model_name="identity").SerializeToString()
    )
    await dataplane.arrived.wait()
    call.cancel()

    async with asyncio.timeout(10):
        await cancelled.wait()


async def test_response_parameters_arrive_with_their_types(
    client: tritonclient.InferenceServerClient, dataplane: FakeDataPlane
) -> None:
    def answer(request: Any) -> Any:
        response = echo(request)
        response.parameters = {"b": True, "i": -3, "u": 2**64 - 1, "f": 0.25, "s": "text"}
        return response

    dataplane.answer = answer

    result = await client.infer("identity", [infer_input(np.zeros((1, 2), np.float32))])

    parameters = result.get_response().parameters
    assert parameters["b"].bool_param is True
    assert parameters["i"].int64_param == -3
    assert parameters["u"].uint64_param == 2**64 - 1
    assert parameters["f"].double_param == 0.25
    assert parameters["s"].string_param == "text"
