"""Limits for the workers of all models, by the command line, and of a model that says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from support import models
from support.clients import eventually
from support.culprits import is_ready, parameter
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    slow, slower = parameter("execute_delay_ms", 1500), parameter("execute_delay_ms", 60_000)
    models.identity(tmp_path, "late", more=slower)
    models.identity(tmp_path, "free", more=slow + parameter("execution_timeout_secs", 0))
    with serving(tmp_path, arguments=["--worker-execution-timeout-secs=1"]) as running:
        yield running


def infer(server: RunningServer, model: str) -> list[float]:
    tensor = http.InferInput("INPUT0", [2], "FP32")
    tensor.set_data_from_numpy(np.array([1, 2], np.float32))
    with http.InferenceServerClient(server.http, network_timeout=60) as client:
        result = client.infer(model, [tensor]).as_numpy("OUTPUT0")
    assert result is not None
    return [float(value) for value in result]


def test_a_pure_model_that_takes_too_long_is_tried_once_more_and_then_told(
    server: RunningServer,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        infer(server, "late")

    assert caught.value.status() == "503"
    assert str(caught.value).endswith(
        "the request to model 'late' was lost: the worker of model instance 'late_0' was killed: a "
        "request has taken longer than the 1 seconds of execution_timeout_secs"
    )
    assert server.log.count("late_0' was killed: a request has taken longer") == 2
    eventually(lambda: is_ready(server, "late"), "it comes back")


def test_a_model_may_be_without_the_limit(server: RunningServer) -> None:
    assert infer(server, "free") == [1, 2]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("execution_timeout_secs", "soon", "a number of seconds"),
        ("load_timeout_secs", "-1", "a number of seconds"),
        ("memory_limit_byte_size", "2 GiB", "a whole number of bytes"),
    ],
)
def test_a_limit_that_is_no_number_is_told_with_its_place(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    models.identity(tmp_path, "wrong", more=parameter(name, value))
    with serving(tmp_path) as running:
        line = running.wait_for_line(rf"config\.pbtxt.*parameter '{name}' is '{value}'.*")[0]

    assert f"expected {expected} in model 'wrong'" in line
    assert "write for instance string_value: " in line
