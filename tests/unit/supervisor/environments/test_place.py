"""Which environment a model's configuration means."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.supervisor.config.schema import ModelConfig, ModelParameter
from tritonpy.supervisor.environments.place import Kind, Place, place_of, report_stub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "m"
    folder.mkdir(parents=True)
    (folder / "env.tar.gz").write_text("")
    (folder / "requirements.txt").write_text("")
    (folder / "env").mkdir()
    (tmp_path / "elsewhere").mkdir()
    return folder


def config(path: str = "", python: str = "") -> ModelConfig:
    texts = {"EXECUTION_ENV_PATH": path, "EXECUTION_ENV_PYTHON": python}
    parameters = {name: ModelParameter(string_value=text) for name, text in texts.items() if text}
    return ModelConfig(name="m", backend="python", parameters=parameters)


def found(model: Path, path: str, python: str = "") -> Place | None:
    return place_of(config(path, python), str(model))


def test_a_model_that_names_none_runs_in_the_servers_own(model: Path) -> None:
    assert place_of(config(), str(model)) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("env.tar.gz", Kind.ARCHIVE),
        ("requirements.txt", Kind.REQUIREMENTS),
        ("env", Kind.FOLDER),
    ],
)
def test_its_kind_is_seen_from_what_is_there(model: Path, name: str, kind: Kind) -> None:
    place = Place("m", kind, str(model / name))

    assert found(model, str(model / name)) == place
    assert found(model, f"$$TRITON_MODEL_DIRECTORY/{name}") == place


def test_a_relative_path_is_one_from_the_servers_folder(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model)

    assert found(model, "env") == Place("m", Kind.FOLDER, str(model / "env"))


@pytest.mark.parametrize("path", ["../../elsewhere", "link", "."])
def test_a_place_below_the_models_folder_stays_there(model: Path, path: str) -> None:
    (model / "link").symlink_to("../../elsewhere")
    text = f"$$TRITON_MODEL_DIRECTORY/{path}"
    if path == ".":
        assert found(model, text) == Place("m", Kind.FOLDER, str(model))
        return

    with pytest.raises(InvalidArgumentError, match="which leads out of the model's folder"):
        found(model, text)


def test_a_folder_whose_name_begins_like_the_models_is_another(model: Path) -> None:
    model.with_name("m2").mkdir()

    with pytest.raises(InvalidArgumentError, match="which leads out of the model's folder"):
        found(model, "$$TRITON_MODEL_DIRECTORY/../m2")


@pytest.mark.parametrize("path", ["/nowhere/env.tar.gz", "$$TRITON_MODEL_DIRECTORY/missing"])
def test_what_is_not_there_is_told_in_tritons_words(model: Path, path: str) -> None:
    with pytest.raises(InternalError) as caught:
        found(model, path)

    expanded = path.replace("$$TRITON_MODEL_DIRECTORY", str(model))
    assert caught.value.message == f"Failed to get the canonical path for {expanded}."


def test_a_device_is_no_environment(model: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="neither a file nor a folder"):
        found(model, "/dev/null")


def test_requirements_may_name_their_python(model: Path) -> None:
    place = found(model, "$$TRITON_MODEL_DIRECTORY/requirements.txt", "3.12")

    assert place == Place("m", Kind.REQUIREMENTS, str(model / "requirements.txt"), "3.12")


@pytest.mark.parametrize("path", ["$$TRITON_MODEL_DIRECTORY/env", ""])
def test_whatever_else_has_a_python_already(model: Path, path: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"EXECUTION_ENV_PYTHON to '3\.12'"):
        found(model, path, "3.12")


def test_a_backend_brings_an_environment_for_its_models_that_name_none(model: Path) -> None:
    packed = model.parents[1] / "pb_exec_env_model.py.tar.gz"
    packed.write_text("")

    place = Place("m", Kind.ARCHIVE, str(packed))
    assert place_of(config(), str(model), str(packed)) == place
    own = place_of(config(str(model / "env")), str(model), str(packed))
    assert own == Place("m", Kind.FOLDER, str(model / "env"))


def test_a_stub_of_tritons_is_reported_once_and_not_used(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report_stub("m", str(model))
    assert caplog.text == ""
    (model / "triton_python_backend_stub").write_text("")

    report_stub("m", str(model))

    assert len(caplog.records) == 1
    assert "model 'm': the triton_python_backend_stub in its folder is not used" in caplog.text
