"""Messages of more than a gigabyte over gRPC, whose limit is 2 GiB - 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import models
from support.clients import grpc_stub, infer_request, input_tensor
from support.servers import RunningServer, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_SIZE = (1 << 30) + 12345

_CODE = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                given = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                wanted = pb_utils.get_input_tensor_by_name(request, "WANTED").as_numpy()[0]
                seen = np.array([given.size, given[0], given[-1]], np.int64)
                output = np.zeros(wanted, np.uint8)
                if wanted:
                    output[-1] = 7
                responses.append(pb_utils.InferenceResponse(
                    [pb_utils.Tensor("SEEN", seen), pb_utils.Tensor("OUT", output)]))
            return responses
"""
_CONFIG = """
    backend: "python"
    input [
      { name: "IN" data_type: TYPE_UINT8 dims: [ -1 ] },
      { name: "WANTED" data_type: TYPE_INT64 dims: [ 1 ] }
    ]
    output [
      { name: "SEEN" data_type: TYPE_INT64 dims: [ 3 ] },
      { name: "OUT" data_type: TYPE_UINT8 dims: [ -1 ] }
    ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.python_model(repository, "large", _CODE, _CONFIG)
    with serving(repository) as running:
        yield running


@pytest.fixture
def stub(server: RunningServer) -> Iterator[Any]:
    with grpc_stub(server) as found:
        yield found


def _request(given: bytes, wanted: int) -> Any:
    inputs = [input_tensor("IN", "UINT8", [len(given)]), input_tensor("WANTED", "INT64", [1])]
    return infer_request("large", inputs, [given, wanted.to_bytes(8, "little")])


def test_a_request_of_more_than_a_gigabyte_arrives_whole(stub: Any) -> None:
    answer = stub.ModelInfer(_request(b"\x03" + bytes(_SIZE - 2) + b"\x05", 0), timeout=300)
    seen = memoryview(answer.raw_output_contents[0]).cast("q").tolist()
    assert seen == [_SIZE, 3, 5]


def test_a_response_of_more_than_a_gigabyte_arrives_whole(stub: Any) -> None:
    answer = stub.ModelInfer(_request(b"\0", _SIZE), timeout=300)
    output = answer.raw_output_contents[1]
    assert (len(output), output[-1]) == (_SIZE, 7)
