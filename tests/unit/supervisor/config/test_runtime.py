"""What runs a model is found by its backend's name, and by what lies in three folders."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from tritonpy.ipc.errors import InvalidArgumentError, StatusError, UnsupportedError
from tritonpy.supervisor.config.locate import Source
from tritonpy.supervisor.config.runtime import Runtime, find_runtime
from tritonpy.supervisor.config.schema import ModelConfig


class Folders:
    """A model of the backend "mine", and the folder of backends."""

    def __init__(self, path: Path) -> None:
        self.model = path / "models" / "m"
        self.version = self.model / "1"
        self.backend = path / "backends" / "mine"
        for folder in (self.version, self.backend):
            folder.mkdir(parents=True)

    def find(self, backend: str = "mine", runtime: str = "") -> Runtime:
        config = ModelConfig(name="m", backend=backend, runtime=runtime)
        text = f'backend: "{backend}"\nruntime: "{runtime}"\n'
        return find_runtime(
            config,
            str(self.model),
            str(self.version),
            str(self.backend.parent),
            Source("config.pbtxt", text),
        )

    def refusal(self, backend: str = "mine", runtime: str = "") -> StatusError:
        with pytest.raises(StatusError) as raised:
            self.find(backend, runtime)
        return raised.value


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.mark.parametrize("runtime", ["", "model.py"])
def test_a_folder_of_the_backend_s_name_runs_its_models(folders: Folders, runtime: str) -> None:
    (folders.backend / "model.py").touch()
    found = folders.find(runtime=runtime)
    assert found == Runtime(str(folders.backend / "model.py"))
    assert found.name == "model.py"


@pytest.mark.parametrize("runtime", ["", "model.py"])
def test_a_model_cannot_replace_its_backend_s_file(folders: Folders, runtime: str) -> None:
    for folder in (folders.version, folders.model, folders.backend):
        (folder / "model.py").touch()
    assert folders.find(runtime=runtime).file == str(folders.backend / "model.py")


def test_other_files_of_the_backend_s_folder_mean_nothing(folders: Folders) -> None:
    for name in ("model.py", "attributes.json", "libother.so", "README.md"):
        (folders.backend / name).touch()
    assert folders.find() == Runtime(str(folders.backend / "model.py"))


def test_a_runtime_is_looked_for_in_the_version_then_the_model_then_the_backend(
    folders: Folders,
) -> None:
    for folder in (folders.backend, folders.model, folders.version):
        (folder / "mine.py").touch()
        assert folders.find(runtime="mine.py").file == str(folder / "mine.py")


def test_an_environment_lies_beside_the_file_that_it_is_for(folders: Folders) -> None:
    (folders.backend / "model.py").touch()
    (folders.version / "mine.py").touch()
    archive = folders.backend / "pb_exec_env_model.py.tar.gz"
    archive.touch()
    (folders.version / archive.name).touch()
    assert folders.find().environment == str(archive)
    assert folders.find(runtime="mine.py").environment == ""


def test_a_backend_that_is_nowhere_is_refused_with_the_places_that_were_searched(
    folders: Folders,
) -> None:
    error = folders.refusal()
    assert isinstance(error, InvalidArgumentError)
    assert error.message.startswith("config.pbtxt:1: backend 'mine' of model 'm'")
    assert (
        "unable to find backend library for backend 'mine', try specifying runtime on the model "
        f"configuration; searched: '{folders.backend / 'model.py'}'"
    ) in error.message
    assert "identity, onnxruntime, python, pytorch, repeat, square" in error.message


def test_python_that_is_asked_for_must_be_in_the_backend_s_folder(folders: Folders) -> None:
    (folders.version / "model.py").touch()
    message = folders.refusal(runtime="model.py").message
    assert (
        "config.pbtxt:2: unable to find Python backend based backend library 'model.py' for model "
        f"'m', searched: '{folders.backend / 'model.py'}'"
    ) in message


def test_a_runtime_that_is_nowhere_is_refused_with_the_folders_that_were_searched(
    folders: Folders,
) -> None:
    message = folders.refusal(runtime="other.py").message
    assert message == (
        "config.pbtxt:2: unable to find backend library 'other.py' for model 'm', searched: "
        f"'{folders.version}' '{folders.model}' '{folders.backend}'"
    )


@pytest.mark.parametrize("where", ["version", "model", "backend"])
@pytest.mark.parametrize("runtime", ["", "libtriton_mine.so"])
def test_a_shared_library_of_triton_s_is_refused_by_its_path(
    folders: Folders, where: str, runtime: str
) -> None:
    (folders.backend / "model.py").touch()
    library = Path(getattr(folders, where)) / "libtriton_mine.so"
    library.touch()
    error = folders.refusal(runtime=runtime)
    assert isinstance(error, UnsupportedError)
    assert f"{library} is a shared library of Triton's C++ server" in error.message


@pytest.mark.parametrize("name", ["../mine", "a/b", "..", ".hidden", "a\\b", "a\0b"])
def test_a_backend_s_name_leads_nowhere_else(folders: Folders, name: str) -> None:
    (folders.backend / "model.py").touch()
    error = folders.refusal(name)
    assert isinstance(error, InvalidArgumentError)
    assert "it is not the name of a folder" in error.message


@pytest.mark.parametrize("runtime", ["../mine/model.py", "/etc/model.py", "..", ".x.py"])
def test_a_runtime_s_name_leads_nowhere_else(folders: Folders, runtime: str) -> None:
    (folders.backend / "model.py").touch()
    error = folders.refusal(runtime=runtime)
    assert isinstance(error, InvalidArgumentError)
    assert f"backend library name '{runtime}' escapes backend directory" in error.message


@pytest.mark.parametrize(
    ("backend", "runtime"),
    [
        ("python", ""),
        ("python", "libtriton_python.so"),
        ("pytorch", "model.py"),
        ("onnxruntime", "libtriton_onnxruntime.so"),
    ],
)
def test_a_backend_that_is_built_in_has_a_class(
    folders: Folders, backend: str, runtime: str
) -> None:
    folder = folders.backend.parent / backend
    folder.mkdir()
    (folder / "model.py").touch()
    (folder / f"libtriton_{backend}.so").touch()
    assert folders.find(backend, runtime) == Runtime()


@pytest.mark.parametrize(
    ("backend", "runtime"),
    [
        ("python", "model.py"),
        ("python", "other.py"),
        ("onnxruntime", "model.py"),
        ("identity", "libtriton_square.so"),
    ],
)
def test_a_backend_that_is_built_in_has_no_other_runtime(
    folders: Folders, backend: str, runtime: str
) -> None:
    message = folders.refusal(backend, runtime).message
    assert f"config.pbtxt:2: model 'm' asks for the runtime '{runtime}'" in message
    assert "leave `runtime` out" in message


def test_a_package_s_backend_comes_before_a_folder(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders.backend / "model.py").touch()

    def entry_points(group: str) -> list[SimpleNamespace]:
        assert group == "tritonpy.backends"
        return [SimpleNamespace(name="other"), SimpleNamespace(name="mine")]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert folders.find() == Runtime()
    assert folders.find(runtime="model.py").file == str(folders.backend / "model.py")


@pytest.mark.parametrize("name", ["tensorrt", "tensorflow", "openvino"])
def test_a_backend_that_does_not_exist_yet_names_its_extra(folders: Folders, name: str) -> None:
    error = folders.refusal(name)
    assert isinstance(error, UnsupportedError)
    assert f"backend '{name}' of model 'm' is not available" in error.message
    assert f"no {name} backend yet" in error.message
    assert f"pip install 'tritonpy-supervisor[{name}]'" in error.message
