"""Every datatype comes back as it went, over every encoding of the protocol and every backend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from support import models, onnx_models
from support.clients import (
    TIMEOUT,
    Array,
    ask,
    binary_outputs,
    get,
    grpc_stub,
    infer_request,
    input_tensor,
    post_json,
    same,
    unharmed,
)
from support.servers import RunningServer, serving

from tritonpy.ipc.dtypes import DATATYPES, numpy_dtype, to_config
from tritonpy.ipc.tensor import decode_bytes, encode_bytes

BACKENDS = ["identity", "python", "onnx"]

#: Of each datatype that has one, the field of typed contents.
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

ECHO = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                outputs = []
                for tensor in request.inputs():
                    name = tensor.name().replace("INPUT", "OUTPUT")
                    if name.endswith("BF16"):  # numpy has no such type
                        output = pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
                    else:
                        output = pb_utils.Tensor(name, tensor.as_numpy())
                    outputs.append(output)
                responses.append(pb_utils.InferenceResponse(outputs))
            return responses
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.write(repository / "identity" / "config.pbtxt", config("identity"))
    (repository / "identity" / "1").mkdir()
    models.python_model(repository, "python", ECHO, config("python"))
    onnx_identity(repository / "onnx")
    onnx_models.save(onnx_models.scalar_negation(), repository / "scalar" / "1")
    with serving(repository) as running, unharmed(running):
        yield running


def config(backend: str) -> str:
    """A pair of tensors for every datatype, named after it; each may be left out."""
    pairs = [(datatype, to_config(datatype)) for datatype in DATATYPES]
    inputs = "".join(
        f'input {{ name: "INPUT_{name}" data_type: {kind} dims: [ -1, -1 ] optional: true }}\n'
        for name, kind in pairs
    )
    outputs = "".join(
        f'output {{ name: "OUTPUT_{name}" data_type: {kind} dims: [ -1, -1 ] }}\n'
        for name, kind in pairs
    )
    return f'backend: "{backend}"\n{inputs}{outputs}'


def onnx_identity(directory: Path) -> None:
    """The same as a graph, whose inputs are all required; the configuration is read from it."""
    dims: Sequence[None] = [None, None]
    graph = onnx_models.build(
        [
            onnx.helper.make_node("Identity", [f"INPUT_{name}"], [f"OUTPUT_{name}"])
            for name in DATATYPES
        ],
        [onnx_models.value(f"INPUT_{name}", name, dims) for name in DATATYPES],
        [onnx_models.value(f"OUTPUT_{name}", name, dims) for name in DATATYPES],
    )
    onnx_models.save(graph, directory / "1")


def sample(datatype: str) -> Array:
    """Two rows of three elements that a wrong conversion would change."""
    if datatype == "BYTES":
        elements = [b"", b"plain", "größer".encode(), "日本".encode(), b'"\\/\n', b"x" * 300]
        array = np.empty(6, np.object_)
        array[:] = elements
        return array.reshape(2, 3)
    dtype = numpy_dtype(datatype)
    if datatype == "BOOL":
        values: list[Any] = [True, False, True, True, False, False]
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = [limits.min, limits.max, 0, 1, 2, 100]
    else:
        values = [0.1, -1.5, np.inf, -np.inf, 3e-8, 1e4]
    return np.array(values, dtype).reshape(2, 3)


def raw_bytes(array: Array) -> bytes:
    return encode_bytes(array.ravel().tolist()) if array.dtype.kind == "O" else array.tobytes()


def from_raw(data: bytes, datatype: str, shape: Sequence[int]) -> Array:
    if datatype == "BYTES":
        return decode_bytes(data, int(np.prod(shape))).reshape(shape)
    return np.frombuffer(data, numpy_dtype(datatype)).reshape(shape)


def sent(model: str, datatype: str, array: Array) -> tuple[str, dict[str, Array]]:
    """Which model to ask, and with what, so that the array is among it."""
    if model != "onnx":
        return model, {datatype: array}
    return model, {
        **{other: sample(other)[: len(array)] for other in DATATYPES},
        datatype: array,
    }


@pytest.mark.parametrize("model", BACKENDS)
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("rows", [2, 0])
def test_as_binary_data_over_http(
    server: RunningServer, model: str, datatype: str, rows: int
) -> None:
    array = sample(datatype)[:rows]
    inputs = []
    model, arrays = sent(model, datatype, array)
    for name, values in arrays.items():
        tensor = httpclient.InferInput(f"INPUT_{name}", list(values.shape), name)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    wanted = httpclient.InferRequestedOutput(f"OUTPUT_{datatype}", binary_data=True)

    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer(model, inputs, outputs=[wanted])

    output = result.get_output(f"OUTPUT_{datatype}")
    assert output["datatype"] == datatype
    assert output["shape"] == list(array.shape)
    if rows:
        same(result.as_numpy(f"OUTPUT_{datatype}").astype(array.dtype), array)
    else:
        assert output["parameters"] == {"binary_data_size": 0}


@pytest.mark.parametrize("model", ["identity", "python"])
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("rows", [2, 0])
def test_as_json(server: RunningServer, model: str, datatype: str, rows: int) -> None:
    array = sample(datatype)[:rows]
    elements = array.ravel().tolist()
    if datatype == "BYTES":
        elements = [element.decode() for element in elements]
    document = {
        "inputs": [
            {
                "name": f"INPUT_{datatype}",
                "datatype": datatype,
                "shape": array.shape,
                "data": elements,
            }
        ],
        "outputs": [{"name": f"OUTPUT_{datatype}"}],
    }

    answer = post_json(server, f"/v2/models/{model}/infer", document)

    assert answer.headers["content-type"] == "application/json"
    (output,) = answer.json["outputs"]
    assert (output["datatype"], output["shape"]) == (datatype, list(array.shape))
    assert output["data"] == elements


def test_strings_of_any_bytes_in_base64(server: RunningServer) -> None:
    entry = {"name": "INPUT_BYTES", "datatype": "BYTES", "shape": [1, 2], "data": ["/wA=", ""]}
    parameters = {"binary_encoding": "base64"}
    document = {
        "inputs": [{**entry, "parameters": parameters}],
        "outputs": [{"name": "OUTPUT_BYTES", "parameters": parameters}],
    }

    answer = post_json(server, "/v2/models/identity/infer", document)

    (output,) = answer.json["outputs"]
    assert (output["data"], output["parameters"]) == (["/wA=", ""], parameters)
    assert output["shape"] == [1, 2]


@pytest.mark.parametrize(
    ("datatype", "binary_input"),
    [(datatype, True) for datatype in DATATYPES]
    # the client itself refuses to send BF16 as JSON
    + [(datatype, False) for datatype in DATATYPES if datatype != "BF16"],
)
def test_binary_one_way_and_json_the_other(
    server: RunningServer, datatype: str, binary_input: bool
) -> None:
    array = sample(datatype)
    tensor = httpclient.InferInput(f"INPUT_{datatype}", list(array.shape), datatype)
    if datatype == "BYTES":  # the client sends text, so what it is given must be text
        array = np.array([one.decode() for one in array.ravel()], np.object_).reshape(2, 3)
    if datatype == "FP32" and not binary_input:
        array = np.array([[0.5, -1.5, 0.25], [4, 5, 6]], np.float32)
    if datatype == "FP64" and not binary_input:
        array = np.array([[0.1, -1.5, 1e300], [4, 5, 6]], np.float64)
    tensor.set_data_from_numpy(array, binary_data=binary_input)
    wanted = httpclient.InferRequestedOutput(f"OUTPUT_{datatype}", binary_data=not binary_input)

    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer("identity", [tensor], outputs=[wanted]).as_numpy(wanted.name())

    assert result is not None
    if datatype == "BYTES":
        result = np.array(
            [one if isinstance(one, str) else one.decode() for one in result.ravel()], np.object_
        ).reshape(result.shape)
    same(result, array)


def test_binary_and_json_in_one_request_and_one_answer(server: RunningServer) -> None:
    names = ["FP32", "INT64", "BYTES", "FP16"]
    inputs, outputs = [], []
    for number, name in enumerate(names):
        array = sample(name) if name != "BYTES" else sample(name).astype("S").astype(np.object_)
        binary = number % 2 == 1
        if name == "FP32":
            array = np.array([[1, 2, 3]], np.float32)
        tensor = httpclient.InferInput(f"INPUT_{name}", list(array.shape), name)
        tensor.set_data_from_numpy(array, binary_data=binary or name == "BYTES")
        inputs.append(tensor)
        outputs.append(httpclient.InferRequestedOutput(f"OUTPUT_{name}", binary_data=binary))

    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer("identity", inputs, outputs=outputs)

    assert [output["name"] for output in result.get_response()["outputs"]] == [
        f"OUTPUT_{name}" for name in names
    ]
    same(result.as_numpy("OUTPUT_FP32"), np.array([[1, 2, 3]], np.float32))
    same(result.as_numpy("OUTPUT_INT64"), sample("INT64"))
    same(result.as_numpy("OUTPUT_FP16"), sample("FP16"))
    assert result.get_output("OUTPUT_BYTES")["data"] == [
        element.decode() for element in sample("BYTES").ravel()
    ]


@pytest.mark.parametrize("model", BACKENDS)
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("rows", [2, 0])
def test_as_raw_contents_over_grpc(
    server: RunningServer, model: str, datatype: str, rows: int
) -> None:
    array = sample(datatype)[:rows]
    inputs, raw = [], []
    model, arrays = sent(model, datatype, array)
    for name, values in arrays.items():
        inputs.append(input_tensor(f"INPUT_{name}", name, values.shape))
        raw.append(raw_bytes(values))

    with grpc_stub(server) as stub:
        request = infer_request(model, inputs, raw, [f"OUTPUT_{datatype}"])
        response = stub.ModelInfer(request, timeout=TIMEOUT)

    (output,) = response.outputs
    assert (output.name, output.datatype) == (f"OUTPUT_{datatype}", datatype)
    (data,) = response.raw_output_contents
    same(from_raw(data, datatype, output.shape), array)


@pytest.mark.parametrize("model", ["identity", "python"])
@pytest.mark.parametrize("datatype", CONTENTS)
def test_as_typed_contents_over_grpc(server: RunningServer, model: str, datatype: str) -> None:
    array = sample(datatype)
    contents = {CONTENTS[datatype]: array.ravel().tolist()}

    with grpc_stub(server) as stub:
        tensor = input_tensor(f"INPUT_{datatype}", datatype, array.shape, contents)
        request = infer_request(model, [tensor], outputs=[f"OUTPUT_{datatype}"])
        response = stub.ModelInfer(request, timeout=TIMEOUT)

    (data,) = response.raw_output_contents
    same(from_raw(data, datatype, response.outputs[0].shape), array)


@pytest.mark.parametrize("datatype", ["INT8", "UINT8", "INT16", "UINT16"])
def test_typed_contents_that_are_too_wide_are_cut_off(server: RunningServer, datatype: str) -> None:
    values = [300, 70_000] if datatype.startswith("U") else [300, -70_000]
    contents = {CONTENTS[datatype]: values}
    with grpc_stub(server) as stub:
        tensor = input_tensor(f"INPUT_{datatype}", datatype, [1, 2], contents)
        request = infer_request("identity", [tensor], outputs=[f"OUTPUT_{datatype}"])
        response = stub.ModelInfer(request, timeout=TIMEOUT)
    expected = np.array([values], np.int64).astype(numpy_dtype(datatype))
    same(from_raw(response.raw_output_contents[0], datatype, [1, 2]), expected)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_by_the_grpc_client(server: RunningServer, datatype: str) -> None:
    array = sample(datatype)
    tensor = grpcclient.InferInput(f"INPUT_{datatype}", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    wanted = grpcclient.InferRequestedOutput(f"OUTPUT_{datatype}")
    with grpcclient.InferenceServerClient(server.grpc) as client:
        result = client.infer("identity", [tensor], outputs=[wanted])
    same(result.as_numpy(f"OUTPUT_{datatype}").astype(array.dtype), array)


@pytest.mark.anyio
async def test_by_the_asynchronous_clients(server: RunningServer) -> None:
    array = sample("FP64")
    for library, address in ((httpaio, server.http), (grpcaio, server.grpc)):
        tensor = library.InferInput("INPUT_FP64", list(array.shape), "FP64")
        tensor.set_data_from_numpy(array)
        wanted = library.InferRequestedOutput("OUTPUT_FP64")
        async with library.InferenceServerClient(address) as client:
            result = await client.infer("python", [tensor], outputs=[wanted], request_id="7")
        same(result.as_numpy("OUTPUT_FP64"), array)


# --- the corners of JSON --------------------------------------------------------------------------


def infer_json(server: RunningServer, datatype: str, shape: list[int], data: str) -> str:
    """Send literal JSON elements to the identity backend; returns the literal elements back."""
    body = (
        f'{{"inputs":[{{"name":"INPUT_{datatype}","datatype":"{datatype}","shape":{shape},'
        f'"data":{data}}}],"outputs":[{{"name":"OUTPUT_{datatype}"}}]}}'
    )
    answer = ask(server, "POST", "/v2/models/identity/infer", body)
    assert answer.status == 200, answer.body
    return answer.body.decode().split('"data":', 1)[1].removesuffix("}]}")


@pytest.mark.parametrize(
    ("datatype", "data", "back"),
    [
        ("FP32", "[[1,2],[3,[4]]]", "[1.0,2.0,3.0,4.0]"),
        ("FP32", "[NaN,Infinity,-Infinity,1e39]", "[NaN,Infinity,-Infinity,Infinity]"),
        ("FP32", "[0.1,-0.0,2,16777217]", "[0.10000000149011612,-0.0,2.0,16777216.0]"),
        ("FP64", "[0.1,-0.0,2,0.3333333333333333]", "[0.1,-0.0,2.0,0.3333333333333333]"),
        ("INT64", "[9223372036854775807,-1,0,1]", "[9223372036854775807,-1,0,1]"),
        ("UINT64", "[18446744073709551615,0,1,2]", "[18446744073709551615,0,1,2]"),
        ("INT8", "[127,128,-128,-129]", "[127,-128,-128,127]"),
        ("UINT8", "[255,256,257,0]", "[255,0,1,0]"),
        ("BOOL", "[true,[false],true,[[false]]]", "[true,false,true,false]"),
        (
            "BYTES",
            r'["a\"b\\c/","é","😀\u0001","\ud83d\ude00"]',
            r'["a\"b\\c/","é","😀\u0001","😀"]',
        ),
    ],
)
def test_elements_in_json_are_read_and_written_as_triton_does(
    server: RunningServer, datatype: str, data: str, back: str
) -> None:
    assert infer_json(server, datatype, [1, 4], data) == back


def test_a_scalar_of_a_graph_is_one_element_to_clients(server: RunningServer) -> None:
    assert get(server, "/v2/models/scalar").json["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [1]}
    ]
    for data in (2.5, [2.5], [[2.5]]):
        tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": data}
        answer = post_json(server, "/v2/models/scalar/infer", {"inputs": [tensor]})
        (output,) = answer.json["outputs"]
        assert (output["shape"], output["data"]) == ([1], [-2.5])
    with grpc_stub(server) as stub:
        request = infer_request("scalar", [input_tensor("x", shape=[1])], [b"\0\0\x20\x40"])
        assert stub.ModelInfer(request).raw_output_contents[0] == b"\0\0\x20\xc0"


def test_strings_that_are_no_utf_8_are_bytes_and_stay_so(server: RunningServer) -> None:
    array = np.array([[b"\xff\xfe\0", b"\x80"]], np.object_)
    tensor = httpclient.InferInput("INPUT_BYTES", [1, 2], "BYTES")
    tensor.set_data_from_numpy(array)
    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer(
            "python", [tensor], outputs=[httpclient.InferRequestedOutput("OUTPUT_BYTES")]
        ).as_numpy("OUTPUT_BYTES")
    same(result, array)


def test_a_byte_order_mark_and_blanks_around_the_document_are_skipped(
    server: RunningServer,
) -> None:
    document = {
        "inputs": [{"name": "INPUT_INT8", "datatype": "INT8", "shape": [1, 1], "data": [7]}],
        "outputs": [{"name": "OUTPUT_INT8"}],
    }
    for body in (
        b"\xef\xbb\xbf" + json.dumps(document).encode(),
        b" \n" + json.dumps(document).encode() + b"\r\n ",
    ):
        answer = ask(server, "POST", "/v2/models/identity/infer", body)
        assert answer.json["outputs"][0]["data"] == [7]


def test_a_raw_request_is_nothing_but_the_bytes_of_its_input(
    server: RunningServer, tmp_path: Path
) -> None:
    models.identity(tmp_path, "numbers", "TYPE_INT16", max_batch_size=2)
    models.identity(tmp_path, "text", "TYPE_STRING", dims=[1])
    headers = {"Inference-Header-Content-Length": "0"}
    with serving(tmp_path) as raw:
        answer = ask(raw, "POST", "/v2/models/numbers/infer", b"\1\0\2\0\3\0", headers)
        assert binary_outputs(answer) == {"OUTPUT0": b"\1\0\2\0\3\0"}
        answer = ask(raw, "POST", "/v2/models/text/infer", b"hello", headers)
        assert binary_outputs(answer) == {"OUTPUT0": b"\5\0\0\0hello"}
        long = b"x" * 100_000
        answer = ask(raw, "POST", "/v2/models/text/infer", long, headers)
        assert binary_outputs(answer) == {"OUTPUT0": b"\xa0\x86\1\0" + long}
