"""What a requirements file asks for changes with what it names on this machine, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonpy.supervisor.environments.requirements import digest

TEXT = r"""
# how we pin
numpy>=1.26  # the newest
-r more.txt
--constraint=limits/all.txt
--find-links ./wheels
local @ file://{folder}/local-1.0-py3-none-any.whl ; python_version > "3.8"
./tool[extra]
near.whl
-e editable
requests \
    >= 2 --hash=sha256:00
--index-url https://example.org/simple
-r https://example.org/requirements.txt
git @ git+https://example.org/git
"""

#: Each of these files is named by the text above, or by one that it names.
NAMED = (
    *("more.txt", "nested/deep.txt", "limits/all.txt", "wheels/a.whl", "wheels/sub/b.whl"),
    *("local-1.0-py3-none-any.whl", "tool/setup.py", "near.whl", "editable/pyproject.toml"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "one")


def written(folder: Path) -> Path:
    for name in (*NAMED, "unnamed", "tool/__pycache__/setup.pyc"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the first {name}")
    (folder / "more.txt").write_text("-r nested/deep.txt\n")
    (folder / "nested" / "deep.txt").write_text("-r ../more.txt\npackaging\n")
    (folder / "requirements.txt").write_text(TEXT.format(folder=folder))
    return folder


def hashed(folder: Path) -> str:
    return digest(str(folder / "requirements.txt"))


def test_the_same_is_the_same(folder: Path) -> None:
    before = hashed(folder)
    for name in ("unnamed", "tool/__pycache__/setup.pyc"):
        (folder / name).write_text("changed")
    (folder / "wheels" / "a.whl").touch()

    assert hashed(folder) == before


def test_a_file_anywhere_else_with_the_same_text_is_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "wheels").mkdir(parents=True)
        (tmp_path / name / "wheels" / "a.whl").write_text("a")
        (tmp_path / name / "requirements.txt").write_text("--find-links wheels\na\n")

    assert hashed(tmp_path / "one") == hashed(tmp_path / "two")


@pytest.mark.parametrize("name", NAMED)
def test_what_it_names_counts(folder: Path, name: str) -> None:
    before = hashed(folder)
    path = folder / name
    path.write_text(path.read_text() + "\n# another")

    assert hashed(folder) != before


def test_its_own_text_counts(folder: Path) -> None:
    before = hashed(folder)
    with (folder / "requirements.txt").open("a") as file:
        file.write("pandas\n")

    assert hashed(folder) != before


def test_a_file_that_comes_to_those_it_names_counts(folder: Path) -> None:
    before = hashed(folder)
    (folder / "wheels" / "c.whl").write_text("")

    assert hashed(folder) != before


def test_where_something_editable_lies_counts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "tool").mkdir(parents=True)
        (tmp_path / name / "requirements.txt").write_text("-e ./tool\n")

    assert hashed(tmp_path / "one") != hashed(tmp_path / "two")


def test_a_file_that_is_included_and_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r missing.txt\n")

    with pytest.raises(OSError, match=r"missing\.txt"):
        hashed(tmp_path)
