"""A backend that is a model.py in a folder of its own, driven as the worker drives it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tritonpy.ipc.errors import InternalError
from tritonpy.ipc.messages import Instance
from tritonpy.worker.backend import Model
from tritonpy.worker.python.backend import PythonBackend

_SEEN = """
    import json, os
    import triton_python_backend_utils as pb_utils
    import beside_the_backend

    class TritonPythonModel:
        imports = 0

        @staticmethod
        def auto_complete_config(config):
            TritonPythonModel.imports += 1
            with open(os.path.join(pb_utils.get_model_dir(), "model.json")) as file:
                name = json.load(file)["input"]
            config.add_input({"name": name, "data_type": "TYPE_FP32", "dims": [1]})
            return config

        def initialize(self, args):
            TritonPythonModel.imports += 1
            self.args = args

        def execute(self, requests):
            return None
"""


class Backends:
    """The folder of the backend "mine", and a model of it."""

    def __init__(self, path: Path) -> None:
        self.folder = path / "backends" / "mine"
        self.version = path / "m" / "1"
        self.folder.mkdir(parents=True)
        self.version.mkdir(parents=True)
        (self.folder / "beside_the_backend.py").touch()
        (self.version / "model.json").write_text('{"input": "PROMPT"}')
        self.backends: list[PythonBackend] = []

    def write(self, code: str, name: str = "model.py") -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(code))
        return path

    def model(self, name: str = "model.py", **settings: str) -> Model:
        return Model(
            "m",
            1,
            str(self.version.parent),
            str(self.version),
            {"name": "m", "backend": "mine", "runtime": name},
            Instance("m_0", "CPU", 0, 1),
            settings,
            str(self.folder / name),
        )

    def backend(self) -> PythonBackend:
        made = PythonBackend()
        self.backends.append(made)
        return made


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[Backends]:
    modules, path = dict(sys.modules), list(sys.path)
    made = Backends(tmp_path)
    yield made
    for backend in made.backends:
        backend.unload()
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


def python_model(backend: PythonBackend) -> Any:
    return backend._python_model  # pyright: ignore[reportPrivateUsage]


def test_the_backend_s_file_is_imported_once_as_plain_model(backends: Backends) -> None:
    path = backends.write(_SEEN)
    backend = backends.backend()
    backend.describe(backends.model())
    backend.load(backends.model())
    assert type(python_model(backend)).__module__ == "model"
    assert sys.modules["model"].__file__ == str(path)
    assert type(python_model(backend)).imports == 2  # of one class: of one import


def test_it_completes_the_configuration_from_the_model_s_own_files(backends: Backends) -> None:
    backends.write(_SEEN)
    config = backends.backend().describe(backends.model())
    assert [tensor["name"] for tensor in config["input"]] == ["PROMPT"]


def test_another_module_of_its_name_on_the_path_is_not_taken(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.py").write_text("raise RuntimeError('somebody else\\'s')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    backends.write(_SEEN)
    backends.backend().load(backends.model())


def test_a_file_of_another_name_is_imported_by_it(backends: Backends) -> None:
    backends.write(_SEEN, "server_of_texts.py")
    backend = backends.backend()
    backend.load(backends.model("server_of_texts.py"))
    assert type(python_model(backend)).__module__ == "server_of_texts"


def test_a_name_that_the_worker_needs_itself_is_refused(backends: Backends) -> None:
    backends.write(_SEEN, "json.py")
    with pytest.raises(InternalError, match=r"json\.py has the name of a module that the worker"):
        backends.backend().load(backends.model("json.py"))


def test_the_model_s_own_folders_are_not_on_the_path(backends: Backends) -> None:
    backends.write("import in_the_version\n")
    (backends.version / "in_the_version.py").touch()
    with pytest.raises(InternalError, match="No module named 'in_the_version'"):
        backends.backend().load(backends.model())


def test_what_lies_in_the_python_folder_of_all_backends_can_be_imported(backends: Backends) -> None:
    python = backends.folder.parent / "python"
    python.mkdir()
    (python / "for_all_backends.py").touch()
    backends.write("import for_all_backends\n" + textwrap.dedent(_SEEN))
    model = backends.model(**{"backend-directory": str(backends.folder.parent)})
    backends.backend().load(model)


def test_it_is_told_its_own_settings(backends: Backends) -> None:
    backends.write(_SEEN)
    backend = backends.backend()
    backend.load(backends.model(speed="9"))
    args = python_model(backend).args
    assert args["backend_config"] == '{"speed": "9"}'
    assert args["model_repository"] == str(backends.version.parent)


def test_a_failing_import_is_named_with_its_line_and_can_be_tried_again(
    backends: Backends,
) -> None:
    path = backends.write("import no_such_module\n")
    with pytest.raises(InternalError, match=r"No module named 'no_such_module', at .*model\.py"):
        backends.backend().load(backends.model())
    assert "model" not in sys.modules
    path.write_text(textwrap.dedent(_SEEN))
    backends.backend().load(backends.model())


def test_an_exception_is_named_with_the_line_of_the_backend(backends: Backends) -> None:
    backends.write("""
        import json

        class TritonPythonModel:
            def initialize(self, args):
                json.loads("{")

            def execute(self, requests):
                return None
    """)
    with pytest.raises(InternalError) as raised:
        backends.backend().load(backends.model())
    assert raised.value.message.endswith(f"at {backends.folder}/model.py(6): initialize")


def test_a_file_without_the_class_is_named(backends: Backends) -> None:
    path = backends.write("x = 1\n")
    with pytest.raises(InternalError, match="does not define the class") as raised:
        backends.backend().load(backends.model())
    assert str(path) in raised.value.message
