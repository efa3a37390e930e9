"""What is packed is exactly the package, and what is no package does not look like one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("ipc", "proto", "supervisor", "worker")

#: What version control ignores, and never packs.
_LEFT_OUT = ("__pycache__", ".pyc")


def files_of(root: Path, *folders: str) -> set[str]:
    """The files below these folders of a tree, by their paths in it."""
    return {
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file() and not any(part in str(path) for part in _LEFT_OUT)
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built without the network from a copy of the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "__init__.py", "py.typed", ".gitignore"):
        shutil.copy(ROOT / name, source)
    for name in (*PARTS, "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        # -P: the tree holds a folder `proto`, and more that must not be found by its name.
        [sys.executable, "-P", "-m", "hatchling", "build"],
        cwd=source,
        env={**os.environ, "PYTHONSAFEPATH": "1", "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return source / "dist"


def test_the_wheel_holds_exactly_the_package(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if ".dist-info/" in name}

    expected = {
        f"tritonpy/{name}" for name in files_of(built.parent, *PARTS) | {"__init__.py", "py.typed"}
    }
    assert names - metadata == expected
    assert {name.partition(".dist-info/")[2] for name in metadata} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_sdist_holds_the_package_and_its_tests(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    roots = {"__init__.py", "py.typed", "pyproject.toml", "README.md", "LICENSE"}
    assert names == files_of(built.parent, *PARTS, "tests") | roots | {"PKG-INFO", ".gitignore"}


def test_the_wheel_can_be_imported_without_the_tree(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import tritonpy.supervisor.cli, tritonpy.worker.main;"
        "print(tritonpy.supervisor.cli.__file__)"
    )

    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout.strip() == str(tmp_path / "tritonpy/supervisor/cli.py"), done.stderr


@pytest.mark.parametrize("folder", ["benchmarks", "deploy", "docs", "examples", "tests"])
def test_folders_that_are_not_the_package_have_no_init(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py"))


@pytest.mark.parametrize("part", PARTS)
def test_every_folder_of_the_package_says_what_it_is_and_nothing_else(part: str) -> None:
    for folder in {path.parent for path in (ROOT / part).rglob("*.py")}:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert text.startswith('"""')
        assert text.rstrip().endswith('"""')
        assert text.count('"""') == 2, f"{folder} holds more than its docstring"


@pytest.mark.parametrize("part", PARTS)
def test_no_module_is_so_deep_that_imports_need_four_dots(part: str) -> None:
    deepest = max(len(path.relative_to(ROOT).parts) for path in (ROOT / part).rglob("*.py"))

    assert deepest <= 3


def test_generated_code_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tritonpy.proto.generate", "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
