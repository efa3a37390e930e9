"""Python models that go wrong: a line for the client, the story in the log, a worker alive."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from support import models
from support.clients import (
    grpc_error,
    grpc_stub,
    infer_request,
    input_tensor,
    metrics,
    post_json,
    statistics,
    unharmed,
)
from support.servers import RunningServer, serving

OK = 'pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.zeros(4, np.float32))])'
CODES = {
    "UNKNOWN": (400, "UNKNOWN"),
    "INTERNAL": (500, "INTERNAL"),
    "NOT_FOUND": (404, "NOT_FOUND"),
    "INVALID_ARG": (400, "INVALID_ARGUMENT"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
    "UNSUPPORTED": (501, "UNIMPLEMENTED"),
    "ALREADY_EXISTS": (400, "ALREADY_EXISTS"),
    "CANCELLED": (400, "CANCELLED"),
}
#: One model does it all: what to do is the request's parameter.
BODY = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("not even that")

    class TritonPythonModel:
        def execute(self, requests):
            import json
            (request,) = requests
            case = json.loads(request.parameters())["case"]
            kind, _, detail = case.partition(":")
            ok = {ok}
            if kind == "raise":
                raise ValueError("first line" + chr(10) + "second line")
            if kind == "odd":
                raise Odd()
            if kind == "recursion":
                return self.execute(requests)
            if kind == "model exception":
                raise pb_utils.TritonModelException("said so")
            if kind == "error":
                code = getattr(pb_utils.TritonError, detail)
                error = pb_utils.TritonError("said " + detail, code)
                return [pb_utils.InferenceResponse(error=error)]
            if kind == "plain error":
                return [pb_utils.InferenceResponse(error=pb_utils.TritonError("plain"))]
            if kind == "return":
                return eval(detail)
            if kind == "print":
                print("to the log")
            return [ok]
""".replace("{ok}", OK)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.python_model(repository, "model", BODY, models.identity_config(dims=[4]))
    with serving(repository) as running, unharmed(running, tracebacks=True):
        yield running
        status, message = infer(running, "print")
        assert (status, message) == (200, "")


def infer(server: RunningServer, case: str) -> tuple[int, str]:
    """The HTTP status, and the error's message if there is one."""
    tensor = {"name": "IN", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}
    document = {"id": "r", "parameters": {"case": case}, "inputs": [tensor]}
    answer = post_json(server, "/v2/models/model/infer", document)
    return answer.status, answer.error if answer.status != 200 else ""


FAILED = "Failed to process the request(s) for model 'model_0', message: "


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("raise", "ValueError: first line"),
        ("recursion", "RecursionError: maximum recursion depth exceeded"),
        ("model exception", "TritonModelException: said so"),
        (
            "return:[]",
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            "objects. InferenceRequest(s) size is:1, and InferenceResponse(s) size is:0",
        ),
        (
            "return:[ok, ok]",
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            "objects. InferenceRequest(s) size is:1, and InferenceResponse(s) size is:2",
        ),
        (
            "return:['x']",
            "Expected an 'InferenceResponse' object in the execute function return list, found "
            "type '<class 'str'>'.",
        ),
        ("return:5", "Expected a list in the execute return, found type '<class 'int'>'."),
        ("return:None", "the model let go of the request without sending a response."),
        ("return:[None]", "the model let go of the request without sending a response."),
    ],
)
def test_what_goes_wrong_in_execute_is_told_in_one_line(
    server: RunningServer, case: str, message: str
) -> None:
    status, error = infer(server, case)
    assert status == 500
    assert error.startswith(FAILED + message)
    assert "\n" not in error.removesuffix("\n")  # one of Triton's own texts ends so
    assert infer(server, "fine") == (200, "")


def test_an_exception_that_cannot_even_be_printed_is_an_error_as_any_other(
    server: RunningServer,
) -> None:
    status, error = infer(server, "odd")
    assert status == 500
    assert error.startswith(("Failed to process the request(s)", "model 'model' version 1 failed"))
    assert infer(server, "fine") == (200, "")


@pytest.mark.parametrize("code", CODES)
def test_a_models_own_errors_have_its_words_and_its_code(server: RunningServer, code: str) -> None:
    http_status, grpc_status = CODES[code]
    assert infer(server, f"error:{code}") == (http_status, f"said {code}")
    request = infer_request(
        "model",
        [input_tensor("IN")],
        [np.zeros(4, np.float32).tobytes()],
        parameters={"case": f"error:{code}"},
    )
    with grpc_stub(server) as stub:
        assert grpc_error(partial(stub.ModelInfer, request)) == (grpc_status, f"said {code}")


def test_an_error_without_a_code_is_internal(server: RunningServer) -> None:
    assert infer(server, "plain error") == (500, "plain")


@pytest.mark.parametrize(
    "tensor",
    [
        'pb_utils.Tensor("OUT", np.zeros(4, np.complex128))',
        'pb_utils.Tensor("OUT", "text")',
        "pb_utils.Tensor(5, np.zeros(4, np.float32))",
        'pb_utils.Tensor("OUT", np.array([object()], np.object_))',
    ],
)
def test_an_output_that_is_no_tensor_fails_its_request_or_is_sent_as_text(
    server: RunningServer, tensor: str
) -> None:
    status, error = infer(server, f"return:[pb_utils.InferenceResponse([{tensor}])]")
    assert status in (200, 500)
    assert "\n" not in error
    assert infer(server, "fine") == (200, "")


@pytest.mark.parametrize(
    "outputs",
    [
        "[]",
        '[pb_utils.Tensor("NOPE", np.zeros(4, np.float32))]',
        '[pb_utils.Tensor("OUT", np.zeros((2, 3), np.int32))]',
    ],
)
def test_outputs_are_passed_on_as_the_model_made_them(server: RunningServer, outputs: str) -> None:
    tensor = {"name": "IN", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}
    case = f"return:[pb_utils.InferenceResponse({outputs})]"
    answer = post_json(
        server, "/v2/models/model/infer", {"parameters": {"case": case}, "inputs": [tensor]}
    )
    assert answer.status == 200
    shown = [(one["name"], one["datatype"], one["shape"]) for one in answer.json["outputs"]]
    assert shown == ([("OUT", "INT32", [2, 3])] if "int32" in outputs else [])


def test_failures_are_counted_and_told_in_the_log(server: RunningServer) -> None:
    series = 'nv_inference_request_failure{model="model",reason="BACKEND",version="1"}'
    before, counted = statistics(server, "model"), metrics(server)[series]
    infer(server, "raise")
    infer(server, "fine")
    after = statistics(server, "model")
    assert metrics(server)[series] == counted + 1
    assert (
        after["inference_stats"]["fail"]["count"] == before["inference_stats"]["fail"]["count"] + 1
    )
    assert after["inference_stats"]["success"]["count"] == (
        before["inference_stats"]["success"]["count"] + 1
    )
    assert after["inference_count"] == before["inference_count"] + 1
    assert "second line" in server.log


def test_what_a_model_prints_goes_to_the_log(server: RunningServer) -> None:
    infer(server, "print")
    server.wait_for_line(r"model_0.*to the log")
