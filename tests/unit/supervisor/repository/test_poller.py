"""What changed between two looks at a repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tritonpy.supervisor.repository.poller import fingerprint, same_version


def write(path: Path, text: str, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(at, at))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    write(folder / "config.pbtxt", "a", 1000)
    write(folder / "1" / "model.onnx" / "weights", "bbb", 2000)
    return folder


def test_a_look_sees_every_file_with_time_and_size(model: Path) -> None:
    (model / "2").mkdir()
    assert fingerprint(str(model)) == {
        "config.pbtxt": (1000, 1),
        "1/model.onnx/weights": (2000, 3),
        "2": (0, 0),
    }


def test_two_looks_at_the_same_are_the_same(model: Path) -> None:
    assert fingerprint(str(model)) == fingerprint(str(model))


@pytest.mark.parametrize(
    ("text", "at"), [("cc", 1000), ("c", 1001)], ids=["another size", "another time"]
)
def test_a_changed_file_is_noticed(model: Path, text: str, at: int) -> None:
    before = fingerprint(str(model))
    write(model / "config.pbtxt", text, at)
    after = fingerprint(str(model))
    assert {path for path in after if after[path] != before[path]} == {"config.pbtxt"}


def test_files_that_come_and_go_are_noticed(model: Path) -> None:
    before = fingerprint(str(model))
    write(model / "2" / "model.onnx", "x", 5)
    (model / "config.pbtxt").unlink()
    after = fingerprint(str(model))
    assert before.keys() ^ after.keys() == {"config.pbtxt", "2/model.onnx"}


def test_what_python_writes_by_importing_is_no_change(model: Path) -> None:
    before = fingerprint(str(model))
    write(model / "1" / "__pycache__" / "model.cpython-311.pyc", "x", 5)
    assert fingerprint(str(model)) == before


def test_links_are_followed_and_circles_end(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "shared" / "model.onnx", "x", 7)
    (model / "2").symlink_to(tmp_path / "shared")
    (model / "3").symlink_to(tmp_path / "shared")
    (model / "1" / "up").symlink_to(model)
    (model / "dangling").symlink_to(tmp_path / "nowhere")
    seen = fingerprint(str(model))
    assert seen["2/model.onnx"] == seen["3/model.onnx"] == (7, 1)
    assert not any("up" in path.split("/") for path in seen)
    assert "dangling" not in seen


def test_a_folder_that_is_gone_looks_empty(tmp_path: Path) -> None:
    assert fingerprint(str(tmp_path / "gone")) == {}


def test_a_file_that_vanishes_while_it_is_looked_at_counts_as_absent(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def listdir(path: str) -> list[str]:
        names = listed(path)
        if path.endswith("/1/model.onnx"):
            (model / "1" / "model.onnx" / "weights").unlink()
        return names

    monkeypatch.setattr(os, "listdir", listdir)
    assert fingerprint(str(model)) == {"config.pbtxt": (1000, 1)}


def test_a_folder_that_vanishes_while_it_is_looked_at_counts_as_absent(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("/1"):
            raise FileNotFoundError(path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert fingerprint(str(model)) == {"config.pbtxt": (1000, 1)}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ("1/model.py", False),
        ("1/more/weights", False),
        ("labels.txt", False),
        ("warmup/sample", False),
        ("2/model.py", True),
        ("config.pbtxt", True),
        ("configs/other.pbtxt", True),
    ],
)
def test_a_version_is_the_same_while_its_files_and_the_shared_ones_are(
    changed: str, same: bool
) -> None:
    before = {f"/r/m/{path}": (1, 1) for path in ("1/model.py", "1/more/weights", "labels.txt")}
    after = {**before, f"/r/m/{changed}": (2, 1)}
    assert same_version(before, before, "/r/m", 1)
    assert same_version(before, after, "/r/m", 1) is same
