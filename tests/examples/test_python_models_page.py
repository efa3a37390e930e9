"""What docs/python-models.md says of editors and tests, tried as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import EXAMPLES

PAGE = EXAMPLES.parent / "docs" / "python-models.md"

_FILE = re.compile(r"```python\n# (\S+\.pyi?)\n(.*?)```", re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page, each where its first line says."""
    files = dict(_FILE.findall(PAGE.read_text()))
    assert len(files) == 4
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_model_is_tested_without_a_server(project: Path) -> None:
    done = run(project, "pytest", "-q", "-p", "no:cacheprovider", ".")

    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_the_model_and_its_test_are_typed(project: Path) -> None:
    arguments = ["--strict", "--cache-dir", os.devnull, "models/add/1/model.py", "test_model.py"]
    done = run(project, "mypy", *arguments, MYPYPATH=f"typings{os.pathsep}models/add/1")
    assert done.stdout.startswith("Success"), done.stdout + done.stderr

    wrong = (project / "test_model.py").read_text().replace("request_id=", "request_name=", 1)
    (project / "test_model.py").write_text(wrong)
    done = run(project, "mypy", *arguments, MYPYPATH=f"typings{os.pathsep}models/add/1")
    assert 'Unexpected keyword argument "request_name"' in done.stdout


def test_nothing_of_that_name_is_in_the_environment() -> None:
    done = run(Path("/"), "triton_python_backend_utils")

    assert "No module named triton_python_backend_utils" in done.stderr
