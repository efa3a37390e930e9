"""What lies in a model repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config.locate import Source
from tritonpy.supervisor.config.schema import ModelConfig
from tritonpy.supervisor.repository.layout import (
    ModelOnDisk,
    check_config_name,
    check_name,
    find_model,
    find_models,
    is_name,
)


def make(root: Path, *paths: str) -> None:
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()


def only(root: Path, config_name: str = "") -> ModelOnDisk:
    (model,) = find_models(str(root), config_name)
    return model


def test_models_are_the_folders_of_the_repository_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b/1/model.onnx", "a/config.pbtxt", "README.md", ".git/1/", "..data/")
    models = find_models(str(tmp_path))
    assert [model.name for model in models] == ["a", "b"]
    assert models[0].directory == str(tmp_path / "a")
    assert models[0].repository == str(tmp_path)


def test_versions_are_positive_numbers_ascending(tmp_path: Path) -> None:
    make(tmp_path, "m/10/", "m/9/", "m/1/model.py")
    model = only(tmp_path)
    assert model.versions == (1, 9, 10)
    assert model.ignored == ()
    assert model.version_directory(9) == str(tmp_path / "m" / "9")


def test_the_backend_is_guessed_from_the_first_version_in_the_order_of_text(
    tmp_path: Path,
) -> None:
    make(tmp_path, "m/10/", "m/9/")
    assert only(tmp_path).sample_directory == str(tmp_path / "m" / "10")
    (tmp_path / "m" / "10").rmdir()
    (tmp_path / "m" / "9").rmdir()
    assert only(tmp_path).sample_directory is None


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("01/", "a version has no leading zero; rename it to 1"),
        ("0/", "versions start at 1"),
        ("-3/", "versions start at 1"),
        ("v1/", "is a positive number"),
        ("1.0/", "is a positive number"),
        ("²/", "is a positive number"),
        ("9" * 30 + "/", "the number is too large"),
        ("7", "a version is a folder, and this is a file"),
    ],
)
def test_what_looks_like_a_version_and_is_none_is_ignored_with_a_reason(
    tmp_path: Path, entry: str, reason: str
) -> None:
    make(tmp_path, f"m/{entry}", "m/2/")
    model = only(tmp_path)
    assert model.versions == (2,)
    (sentence,) = model.ignored
    assert reason in sentence
    assert str(tmp_path / "m" / entry.rstrip("/")) in sentence


def test_what_else_lies_in_a_models_folder_is_nobodys_business(tmp_path: Path) -> None:
    make(tmp_path, *(f"m/{name}" for name in ("configs/", "warmup/", "helpers/", "labels.txt")))
    make(tmp_path, "m/initial_state/", "m/__pycache__/", "m/.cache1/", "m/env3.tar.gz")
    model = only(tmp_path)
    assert (model.versions, model.ignored) == ((), ())


def test_folders_may_be_links(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/m/1/model.onnx", "weights/", "repository/")
    (tmp_path / "repository" / "linked").symlink_to(tmp_path / "elsewhere" / "m")
    (tmp_path / "elsewhere" / "m" / "2").symlink_to(tmp_path / "weights")
    (tmp_path / "repository" / "dangling").symlink_to(tmp_path / "nowhere")
    model = only(tmp_path / "repository")
    assert model.name == "linked"
    assert model.versions == (1, 2)


def test_the_configuration_file_is_found(tmp_path: Path) -> None:
    make(tmp_path, "m/1/")
    assert only(tmp_path).config_path is None
    make(tmp_path, "m/config.pbtxt")
    assert only(tmp_path).config_path == str(tmp_path / "m" / "config.pbtxt")


def test_a_named_configuration_comes_first_and_falls_back(tmp_path: Path) -> None:
    make(tmp_path, "m/config.pbtxt", "m/configs/a100.pbtxt")
    assert only(tmp_path, "a100").config_path == str(tmp_path / "m" / "configs" / "a100.pbtxt")
    assert only(tmp_path, "h200").config_path == str(tmp_path / "m" / "config.pbtxt")


def test_a_model_that_cannot_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "m/1/")
    listed = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("/m"):  # as root, no permission could be taken away
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    model = only(tmp_path)
    assert model.versions == ()
    assert "cannot be read: Permission denied" in model.ignored[0]


def test_a_repository_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="failed to read model repository"):
        find_models(str(tmp_path / "missing"))


def test_one_model_is_found_by_name(tmp_path: Path) -> None:
    make(tmp_path, "m/3/", "file", ".hidden/1/")
    found = find_model(str(tmp_path), "m")
    assert found is not None
    assert found.versions == (3,)
    assert find_model(str(tmp_path), "other") is None
    assert find_model(str(tmp_path), "file") is None
    assert find_model(str(tmp_path), ".hidden") is None


@pytest.mark.parametrize("name", ["", "  ", "a/b", "..", "../m", "a..b", "a\\b", "a\0b"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid model name"):
        find_model(str(tmp_path), name)


def test_other_names_pass() -> None:
    for name in ("m", "resnet-50.v2", "größe", "a b", "scope:0"):
        check_name(name)


def test_a_configuration_of_another_model_is_refused_with_its_line(tmp_path: Path) -> None:
    make(tmp_path, "folder/1/")
    model = only(tmp_path)
    source = Source("config.pbtxt", 'backend: "x"\nname: "other"')
    with pytest.raises(InvalidArgumentError) as caught:
        check_config_name(model, ModelConfig(name="other"), source)
    assert caught.value.message.startswith(
        "config.pbtxt:2: unexpected directory name 'folder' for model 'other', directory name "
        "must equal model name"
    )
    check_config_name(model, ModelConfig(name="folder"), source)
    check_config_name(model, ModelConfig(), source)


@pytest.mark.parametrize(
    ("name", "fits"),
    [("m", True), ("a b", True), (" ", False), ("", False), ("a/b", False), ("..", False)],
)
def test_a_name_of_a_model_is_one_of_a_folder(name: str, fits: bool) -> None:
    assert is_name(name) is fits
