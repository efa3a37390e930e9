"""Settings of the log that clients read and change while the server runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import post_json
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Logs at every level what its request's id says, before it answers.
TALKER = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            logger = pb_utils.Logger
            responses = []
            for request in requests:
                text = request.request_id()
                logger.log_verbose(f"verbose {text}")
                logger.log_info(f"info {text}")
                logger.log_warn(f"warning {text}")
                logger.log_error(f"error {text}")
                tensor = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor)]))
            return responses
"""
DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.python_model(repository, "talker", TALKER, models.identity_config())
    with serving(repository) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpclient.InferenceServerClient]:
    with httpclient.InferenceServerClient(server.http) as client:
        yield client
        client.update_log_settings({n: v for n, v in DEFAULTS.items() if n != "log_file"})


def _talk(client: httpclient.InferenceServerClient, text: str) -> None:
    tensor = httpclient.InferInput("IN", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    client.infer("talker", [tensor], request_id=text)


def test_the_settings_are_those_of_the_start(client: httpclient.InferenceServerClient) -> None:
    assert client.get_log_settings() == DEFAULTS


def test_a_model_is_heard_at_the_levels_that_are_on(
    client: httpclient.InferenceServerClient, server: RunningServer
) -> None:
    client.update_log_settings({"log_verbose_level": 1, "log_warning": False})
    _talk(client, "first")
    client.update_log_settings({"log_verbose_level": 0, "log_info": False, "log_warning": True})
    _talk(client, "second")
    server.wait_for_line("error second")

    said = [word for word in server.log.split('"') if word.endswith((" first", " second"))]

    assert sorted(line.partition("] ")[2] for line in said) == [
        "error first",
        "error second",
        "info first",
        "verbose first",
        "warning second",
    ]


def test_lines_have_the_format_that_is_set_over_grpc(
    client: httpclient.InferenceServerClient, server: RunningServer
) -> None:
    with grpcclient.InferenceServerClient(server.grpc) as grpc:
        changed = grpc.update_log_settings({"log_format": "ISO8601"}, as_json=True)
    assert changed["settings"]["log_format"] == {"string_param": "ISO8601"}
    _talk(client, "iso")
    server.wait_for_line(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I \d+ model.py:\d+\] ".*info iso"')


def test_a_change_that_is_wrong_in_part_changes_nothing(
    client: httpclient.InferenceServerClient, server: RunningServer
) -> None:
    with pytest.raises(InferenceServerException, match="invalid argument for --log_format"):
        client.update_log_settings({"log_info": False, "log_format": "nope"})
    with (
        grpcclient.InferenceServerClient(server.grpc) as grpc,
        pytest.raises(InferenceServerException, match="invalid argument for log_format"),
    ):
        grpc.update_log_settings({"log_warning": False, "log_format": "nope"})
    assert client.get_log_settings() == DEFAULTS


def test_the_file_cannot_be_changed_over_the_network(server: RunningServer) -> None:
    answer = post_json(server, "/v2/logging", {"log_file": "x"})
    assert answer.status == 501
    assert answer.error == "log file location can not be updated through network protocol"
