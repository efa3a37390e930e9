"""The pages that are written by a program say what the code says now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
GENERATORS = sorted(DOCS.glob("generate_*.py"))


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda path: path.stem)
def test_the_page_is_fresh(generator: Path) -> None:
    checked = subprocess.run(
        [sys.executable, str(generator), "--check"], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_both_generators_are_found() -> None:
    assert [path.name for path in GENERATORS] == ["generate_options.py", "generate_states.py"]
