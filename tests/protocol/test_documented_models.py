"""The models of the python backend's documentation, through Triton's own clients.

Those that call others and those that answer many times are in test_bls.py and test_streaming.py.
The one of JAX is left out: it differs from PyTorch's in the library alone, which is no test extra.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from PIL import Image
from support import documented
from support.clients import metrics, unharmed
from support.servers import RunningServer, serving
from tritonclient.utils import np_to_triton_dtype

CLIENTS: dict[str, Any] = {"http": httpclient, "grpc": grpcclient}

ONE, TWO = np.arange(4, dtype=np.float32), np.full(4, 0.5, np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    documented.repository(repository)
    arguments = ["--http-header-forward-pattern=x-.*", "--grpc-header-forward-pattern=x-.*"]
    with serving(repository, arguments=arguments) as running, unharmed(running):
        yield running


@pytest.fixture(params=CLIENTS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(
    server: RunningServer, protocol: str, model: str, inputs: Mapping[str, Any], **more: Any
) -> Any:
    library = CLIENTS[protocol]
    tensors: list[Any] = []
    for name, array in inputs.items():
        tensor = library.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    with library.InferenceServerClient(getattr(server, protocol)) as client:
        return client.infer(model, tensors, **more)


def config_of(server: RunningServer, model: str) -> dict[str, Any]:
    with httpclient.InferenceServerClient(server.http) as client:
        found: dict[str, Any] = client.get_model_config(model)
        return found


def test_add_sub(server: RunningServer, protocol: str) -> None:
    result = ask(server, protocol, "add_sub", {"INPUT0": ONE, "INPUT1": TWO})

    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ONE + TWO)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), ONE - TWO)


def test_add_sub_says_good_bye(tmp_path: Path) -> None:
    documented.add_sub(tmp_path)
    with serving(tmp_path) as server:
        ask(server, "http", "add_sub", {"INPUT0": ONE, "INPUT1": TWO})
    assert "[add_sub_0] Cleaning up..." in server.log


def test_auto_complete_with_batching(server: RunningServer, protocol: str) -> None:
    config = config_of(server, "batch_auto_complete")
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    for kind, names in (("input", ["INPUT0", "INPUT1"]), ("output", ["OUTPUT0", "OUTPUT1"])):
        assert [tensor["name"] for tensor in config[kind]] == names
        assert all(tensor["dims"] == [4] for tensor in config[kind])
        assert all(tensor["data_type"] == "TYPE_FP32" for tensor in config[kind])

    batch = {"INPUT0": np.stack([ONE, TWO]), "INPUT1": np.stack([TWO, TWO])}
    result = ask(server, protocol, "batch_auto_complete", batch)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), np.stack([ONE + TWO, TWO + TWO]))


def test_auto_complete_without_batching(server: RunningServer, protocol: str) -> None:
    config = config_of(server, "nobatch_auto_complete")
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config

    result = ask(server, protocol, "nobatch_auto_complete", {"INPUT0": ONE, "INPUT1": TWO})
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), ONE - TWO)


def picture(colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def test_preprocessing(server: RunningServer, protocol: str) -> None:
    files = [picture((255, 102, 0), (60, 40)), picture((51, 0, 255), (5, 9))]
    given = np.array([[file] for file in files], np.object_)

    pixels = ask(server, protocol, "preprocess", {"FILE": given}).as_numpy("PIXELS")
    means = ask(server, protocol, "pipeline", {"FILE": given}).as_numpy("MEAN")

    wanted = np.array([[2.5, 0.0, -0.6], [-1.5, -1.6, 1.4]], np.float32)
    assert pixels.shape == (2, 3, 4, 6)
    np.testing.assert_allclose(pixels, wanted[:, :, None, None] * np.ones((4, 6)), atol=1e-6)
    np.testing.assert_allclose(means, wanted, atol=1e-6)


def test_custom_metrics(server: RunningServer) -> None:
    for count, took in enumerate((1500.0, 500.0), start=1):
        answer = ask(server, "http", "custom_metrics", {"NS": np.array([took], np.float32)})
        total = 1500.0 if count == 1 else 2000.0
        assert answer.as_numpy("TOTAL") == total
        name = 'requests_process_latency_ns{model="custom_metrics",version="1"}'
        assert metrics(server)[name] == total
    server.wait_for_line(r"\[custom_metrics_0\] Cumulative requests processing latency: 2000.0")


def test_parameters_reach_the_model_and_come_back(server: RunningServer, protocol: str) -> None:
    given = {"text": "é", "number": 7, "yes": True}
    more: dict[str, Any] = {"parameters": given, "headers": {"x-tenant": "a"}}
    result = ask(server, protocol, "parameters", {"IN": ONE[:1]}, **more)

    wanted = {**given, "x-tenant": "a"}
    seen = json.loads(result.as_numpy("SEEN")[0])
    assert {name: seen.get(name) for name in wanted} == wanted
    parameters = result.get_response().parameters if protocol == "grpc" else None
    if parameters is None:
        found = result.get_response()["parameters"]
    else:
        found = {
            name: getattr(value, value.WhichOneof("parameter_choice"))
            for name, value in parameters.items()
        }
    assert {name: found[name] for name in (*wanted, "answered")} == {**wanted, "answered": True}


def test_models_of_pytorch(tmp_path: Path) -> None:
    """One exchanges tensors by DLPack, one puts its network where its instance is."""
    pytest.importorskip("torch")
    documented.torch_repository(tmp_path)
    with serving(tmp_path) as server:
        for protocol in CLIENTS:
            result = ask(server, protocol, "pytorch", {"INPUT0": ONE, "INPUT1": TWO})
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ONE + TWO)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), ONE - TWO)

            batch = {"INPUT": np.stack([ONE, TWO])}
            result = ask(server, protocol, "instance_kind", batch)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT"), 2 * batch["INPUT"])
            assert result.as_numpy("DEVICE")[0] == b"cpu"
