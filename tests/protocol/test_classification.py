"""The classification extension: the best scores with their labels, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import (
    Answer,
    ask,
    grpc_error,
    grpc_stub,
    infer_request,
    input_tensor,
    post_json,
    unharmed,
    with_binary,
)
from support.ensembles import ensemble, step
from support.servers import RunningServer, serving

LABELLED = """
    backend: "identity"
    max_batch_size: 4
    dynamic_batching { }
    input { name: "INPUT0" data_type: TYPE_FP32 dims: 6 }
    output {
      name: "OUTPUT0" data_type: TYPE_FP32 dims: 6 label_filename: "labels.txt"
    }
"""
#: Labels for four of the six; one of them is empty.
LABELS = "zero\none\n\nthree\n"
TWO_ROWS = [[0.1, 0.9, 0.5, 3, -1, 2], [6, 5, 4, 3, 2, 1]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.write(repository / "labelled" / "config.pbtxt", LABELLED)
    models.write(repository / "labelled" / "labels.txt", LABELS)
    (repository / "labelled" / "1").mkdir()
    for datatype in ("FP32", "FP64", "FP16", "INT32", "INT8", "UINT64", "BOOL", "STRING"):
        models.identity(repository, datatype, f"TYPE_{datatype}")
    models.identity(repository, "matrix", "TYPE_INT32", dims=[2, 3])
    steps = [step("labelled", {"INPUT0": "INPUT0"}, {"OUTPUT0": "OUTPUT0"})]
    for name in ("inherits", "relabels"):
        ensemble(repository, name, ["INPUT0 FP32 6"], ["OUTPUT0 FP32 6"], steps)
        config = repository / name / "config.pbtxt"
        text = config.read_text().replace("platform:", "max_batch_size: 4 platform:")
        if name == "relabels":
            text = text.replace("dims: [ 6 ] }", 'dims: [ 6 ] label_filename: "own.txt" }')
            text = text.replace(' label_filename: "own.txt" }', " }", 1)  # the input's
            models.write(repository / name / "own.txt", "null\neins\n")
        config.write_text(text)
    with serving(repository) as running, unharmed(running):
        yield running


def classify(
    server: RunningServer,
    model: str,
    classes: object,
    data: Sequence[Any],
    *,
    datatype: str = "FP32",
    shape: Sequence[int] | None = None,
    **parameters: Any,
) -> Answer:
    tensor = {
        "name": "INPUT0",
        "datatype": datatype,
        "shape": shape or [len(data)],
        "data": data,
    }
    output = {"name": "OUTPUT0", "parameters": {"classification": classes, **parameters}}
    document = {"inputs": [tensor], "outputs": [output]}
    return post_json(server, f"/v2/models/{model}/infer", document)


def classes(answer: Answer) -> tuple[list[int], list[str]]:
    (output,) = answer.json["outputs"]
    assert output["datatype"] == "BYTES"
    return output["shape"], output["data"]


def test_every_row_of_a_batch_is_ranked_by_itself_and_labelled(server: RunningServer) -> None:
    answer = classify(server, "labelled", 3, TWO_ROWS, shape=[2, 6])
    assert classes(answer) == (
        [2, 3],
        [
            *("3.000000:3:three", "2.000000:5", "0.900000:1:one"),
            *("6.000000:0:zero", "5.000000:1:one", "4.000000:2"),
        ],
    )


@pytest.mark.parametrize(
    ("model", "labels"),
    [("inherits", [":zero", ":one", "", ":three"]), ("relabels", [":null", ":eins", "", ""])],
)
def test_an_ensemble_has_the_labels_of_the_model_that_writes_the_output_or_its_own(
    server: RunningServer, model: str, labels: list[str]
) -> None:
    answer = classify(server, model, 4, [[4, 3, 2, 1, 0, 0]], shape=[1, 6])
    expected = [f"{4 - n}.000000:{n}{label}" for n, label in enumerate(labels)]
    assert classes(answer) == ([1, 4], expected)


def test_no_more_classes_are_returned_than_there_are(server: RunningServer) -> None:
    shape, found = classes(classify(server, "labelled", 9, TWO_ROWS, shape=[2, 6]))
    assert shape == [2, 6]
    assert found[5] == "-1.000000:4"


def test_no_classes_are_the_tensor_itself(server: RunningServer) -> None:
    (output,) = classify(server, "labelled", 0, TWO_ROWS, shape=[2, 6]).json["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [2, 6])


def test_classes_as_binary_data(server: RunningServer) -> None:
    answer = classify(server, "labelled", 1, TWO_ROWS, shape=[2, 6], binary_data=True)
    assert answer.body.endswith(b"\x10\0\0\x003.000000:3:three\x0f\0\0\x006.000000:0:zero")


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("FP32", [1, 1, 2, 2, 1e10, 1e-6], ["10000000000.000000:4", "2.000000:2", "2.000000:3"]),
        (
            "FP64",
            [0.1, 1e20, 1 / 3],
            ["100000000000000000000.000000:1", "0.333333:2", "0.100000:0"],
        ),
        ("INT32", [5, -1, 7], ["7:2", "5:0", "-1:1"]),
        ("INT8", [-5, 5, 6], ["6:2", "5:1", "-5:0"]),
        ("UINT64", [2**64 - 1, 5, 6], ["18446744073709551615:0", "6:2", "5:1"]),
    ],
)
def test_scores_of_every_type_that_has_an_order(
    server: RunningServer, datatype: str, data: list[Any], expected: list[str]
) -> None:
    answer = classify(server, datatype, 3, data, datatype=datatype)
    assert classes(answer) == ([3], expected)


def test_without_batching_the_whole_output_is_one_row(server: RunningServer) -> None:
    answer = classify(server, "matrix", 2, [5, -1, 7, 7, 0, 2], datatype="INT32", shape=[2, 3])
    assert classes(answer) == ([2], ["7:2", "7:3"])


def test_scores_that_are_no_numbers_do_not_hide_the_others(server: RunningServer) -> None:
    body = (
        '{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[4],"data":[NaN,1,Infinity,2]}],'
        '"outputs":[{"name":"OUTPUT0","parameters":{"classification":4}}]}'
    )
    _, found = classes(ask(server, "POST", "/v2/models/FP32/infer", body))
    assert sorted(found) == ["1.000000:1", "2.000000:3", "inf:2", "nan:0"]
    assert found.index("inf:2") < found.index("2.000000:3") < found.index("1.000000:1")


def test_an_output_without_elements_has_no_classes(server: RunningServer) -> None:
    assert classes(classify(server, "FP32", 3, [])) == ([0], [])


@pytest.mark.parametrize(
    ("datatype", "data"), [("BOOL", [True, False]), ("STRING", ["a", "b"]), ("FP16", None)]
)
def test_types_without_an_order_are_refused(
    server: RunningServer, datatype: str, data: list[Any] | None
) -> None:
    name = "BYTES" if datatype == "STRING" else datatype
    if data is None:
        document = {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": name,
                    "shape": [2],
                    "parameters": {"binary_data_size": 4},
                }
            ],
            "outputs": [{"name": "OUTPUT0", "parameters": {"classification": 1}}],
        }
        body, headers = with_binary(document, b"\0\0\0\0")
        answer = ask(server, "POST", f"/v2/models/{datatype}/infer", body, headers)
    else:
        answer = classify(server, datatype, 1, data, datatype=name)
    message = f"class result not available for output due to unsupported type '{name}'"
    assert (answer.status, answer.error) == (400, message)


@pytest.mark.parametrize("wrong", [-1, 1.5, "x", None])
def test_a_number_of_classes_that_is_none_is_refused(server: RunningServer, wrong: object) -> None:
    answer = classify(server, "FP32", wrong, [1, 2])
    assert (answer.status, answer.error) == (
        500,
        "Unable to set 'classification': attempt to access JSON non-unsigned-integer as "
        "unsigned-integer",
    )


def test_more_than_a_million_scores_are_refused(server: RunningServer) -> None:
    with grpc_stub(server) as stub:
        request = infer_request(
            "FP32",
            [input_tensor(shape=[1_000_001])],
            [bytes(4_000_004)],
            {"OUTPUT0": {"classification": 1}},
        )
        assert grpc_error(partial(stub.ModelInfer, request)) == (
            "INVALID_ARGUMENT",
            "classification output tensor too large",
        )


@pytest.mark.parametrize("library", [httpclient, grpcclient], ids=["http", "grpc"])
def test_classes_by_the_clients(server: RunningServer, library: Any) -> None:
    rows = np.array(TWO_ROWS, np.float32)
    address = server.http if library is httpclient else server.grpc
    tensor = library.InferInput("INPUT0", [2, 6], "FP32")
    tensor.set_data_from_numpy(rows)
    wanted = library.InferRequestedOutput("OUTPUT0", class_count=2)
    with library.InferenceServerClient(address) as client:
        result = client.infer("labelled", [tensor], outputs=[wanted]).as_numpy("OUTPUT0")
    assert result.tolist() == [
        [b"3.000000:3:three", b"2.000000:5"],
        [b"6.000000:0:zero", b"5.000000:1:one"],
    ]
