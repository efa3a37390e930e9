"""From a model's files to its backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config import parse
from tritonpy.supervisor.config.defaults import complete_from_files
from tritonpy.supervisor.config.locate import Source
from tritonpy.supervisor.config.schema import ModelConfig


def completed(text: str = "", directory: Path | None = None, model: str = "m") -> ModelConfig:
    config = parse.from_text(text, "config.pbtxt")
    where = None if directory is None else str(directory)
    return complete_from_files(config, model, where, Source("config.pbtxt", text))


def triple(config: ModelConfig) -> tuple[str, str, str]:
    return config.backend, config.platform, config.default_model_filename


@pytest.mark.parametrize(
    ("filename", "backend", "platform"),
    [
        ("model.graphdef", "tensorflow", "tensorflow_graphdef"),
        ("model.plan", "tensorrt", "tensorrt_plan"),
        ("model.onnx", "onnxruntime", "onnxruntime_onnx"),
        ("model.xml", "openvino", ""),
        ("model.pt", "pytorch", "pytorch_libtorch"),
        ("model.pt2", "pytorch", "torch_aoti"),
        ("model.py", "python", ""),
    ],
)
def test_a_file_tells_the_backend(
    tmp_path: Path, filename: str, backend: str, platform: str
) -> None:
    (tmp_path / filename).touch()
    assert triple(completed("", tmp_path)) == (backend, platform, filename)
    # Either half leads to the other as well.
    assert triple(completed(f'backend: "{backend}"', tmp_path)) == (backend, platform, filename)
    if platform:
        found = triple(completed(f'platform: "{platform}"', tmp_path))
        assert found == (backend, platform, filename)


@pytest.mark.parametrize("folder", ["model.savedmodel", "model.onnx"])
def test_a_folder_may_be_a_model(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    assert completed("", tmp_path).default_model_filename == folder


def test_a_file_where_a_folder_belongs_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.savedmodel").touch()
    (tmp_path / "model.plan").mkdir()
    with pytest.raises(InvalidArgumentError, match="Could not determine backend"):
        completed("", tmp_path)


def test_of_several_files_the_first_of_tritons_order_wins(tmp_path: Path) -> None:
    for filename in ("model.py", "model.pt", "model.onnx"):
        (tmp_path / filename).touch()
    assert completed("", tmp_path).backend == "onnxruntime"
    assert completed('backend: "python"', tmp_path).default_model_filename == "model.py"


def test_a_platform_or_backend_fills_the_other_without_any_file() -> None:
    assert triple(completed('platform: "onnxruntime_onnx"')) == (
        "onnxruntime",
        "onnxruntime_onnx",
        "model.onnx",
    )
    assert triple(completed('backend: "pytorch"')) == ("pytorch", "pytorch_libtorch", "model.pt")
    assert triple(completed('backend: "tensorflow"')) == ("tensorflow", "", "")


def test_the_old_name_of_the_torchscript_platform_is_understood() -> None:
    assert triple(completed('platform: "libtorch"')) == ("pytorch", "pytorch_libtorch", "model.pt")


def test_a_given_file_name_is_kept_and_tells_the_backend() -> None:
    assert triple(completed('default_model_filename: "model.pt2"')) == (
        "pytorch",
        "torch_aoti",
        "model.pt2",
    )
    assert triple(completed('backend: "onnxruntime" default_model_filename: "net.onnx"')) == (
        "onnxruntime",
        "onnxruntime_onnx",
        "net.onnx",
    )


def test_a_python_runtime_finds_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    config = completed('backend: "pytorch" runtime: "model.py"', tmp_path)
    assert triple(config) == ("pytorch", "pytorch_libtorch", "")


def test_the_name_of_the_folder_becomes_the_name_of_the_model() -> None:
    assert completed('backend: "identity"', model="echo").name == "echo"


def test_a_backend_of_ones_own_is_left_alone() -> None:
    assert triple(completed('backend: "mine" platform: "anything"')) == ("mine", "anything", "")
    assert triple(completed('backend: "mine" platform: "onnxruntime_onnx"'))[0] == "mine"


def test_a_models_name_may_end_in_its_backend(tmp_path: Path) -> None:
    assert completed("", tmp_path, "first.model.identity").backend == "identity"
    assert completed("", None, "echo.repeat").backend == "repeat"


@pytest.mark.parametrize("name", ["m", "m.", ".m"])
def test_a_model_of_which_nothing_is_known_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        completed("", tmp_path, name)
    assert caught.value.message.startswith(
        f"Invalid model name: Could not determine backend for model '{name}' with no backend in "
        "model configuration. Expected model name of the form 'model.<backend_name>'."
    )
    assert f"{tmp_path} holds none of model.savedmodel" in caught.value.message
    with pytest.raises(InvalidArgumentError, match="There is no version folder"):
        completed("", None, name)


@pytest.mark.parametrize(
    ("platform", "backend", "remedy"),
    [
        ("onnxruntime_onnx", "pytorch", 'write backend: "onnxruntime"'),
        ("nonsense", "onnxruntime", "leave `platform` out"),
    ],
)
def test_a_platform_of_another_backend_is_refused(platform: str, backend: str, remedy: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        completed(f'backend: "{backend}"\nplatform: "{platform}"')
    message = caught.value.message
    assert message.startswith("config.pbtxt:2: unexpected 'platform' and 'backend' pair")
    assert f"got:{platform}, {backend} in the configuration of model 'm'; {remedy}" in message


def test_an_unknown_platform_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'onnxruntime_onnx'"):
        completed('platform: "onnxruntime_onx"')
    with pytest.raises(InvalidArgumentError, match="known are onnxruntime_onnx, pytorch_libtorch"):
        completed('platform: "qqqq"')


def test_an_ensemble_needs_no_backend() -> None:
    assert triple(completed("ensemble_scheduling { }")) == ("", "ensemble", "")
    assert triple(completed('platform: "ensemble"')) == ("", "ensemble", "")
