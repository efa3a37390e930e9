"""Loads of the same contents have the same generation on every server; other contents another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonpy.supervisor.models import generation


def model(path: Path) -> Path:
    for name, text in {
        "config.pbtxt": "anything",
        "labels.txt": "zero",
        "1/model.py": "code",
        "1/weights/a.bin": "weights",
        "2/model.py": "other code",
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    (path / "1" / "empty").mkdir()
    return path


def of(path: Path, version: int = 1, config: str = "{}") -> bytes:
    return generation.of_contents(str(path), version, config)


def test_two_copies_of_a_model_are_the_same(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one"), model(tmp_path / "other")
    (other / "1" / "__pycache__").mkdir()
    (other / "1" / "__pycache__" / "model.pyc").write_text("compiled")
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("1/model.py", True),
        ("1/weights/a.bin", True),
        ("labels.txt", True),
        ("1/new.py", True),
        ("2/model.py", False),
        ("config.pbtxt", False),
    ],
)
def test_what_a_version_may_read_makes_the_difference(
    tmp_path: Path, file: str, matters: bool
) -> None:
    before = of(model(tmp_path))
    (tmp_path / file).write_text("changed")
    assert (of(tmp_path) != before) is matters


def test_so_does_the_configuration(tmp_path: Path) -> None:
    model(tmp_path)
    assert of(tmp_path, config="{}") != of(tmp_path, config='{"x":1}')
    assert of(tmp_path, 1) != of(tmp_path, 2)


def test_no_two_loads_are_the_same_for_a_cache_of_this_server_alone() -> None:
    assert generation.of_this_load() != generation.of_this_load()
