"""What workers are written in: a model's own interpreter may be older than the server's, and has
little of what the server has.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support import environments

from tritonpy.supervisor.environments.libraries import NEEDED

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "worker").rglob("*.py"), *(ROOT / "ipc").rglob("*.py")])

#: Frameworks of single backends, which the environments of their models have to bring along.
OF_BACKENDS = {"torch"}

COMPILE = """
import sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        compile(file.read(), path, "exec")
"""


@pytest.mark.parametrize("version", sorted(environments.interpreters()))
def test_each_python_of_this_machine_can_read_the_code_of_workers(version: str) -> None:
    done = subprocess.run(
        [environments.interpreters()[version], "-I", "-c", COMPILE, *map(str, FILES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stderr == ""
    assert done.returncode == 0


def test_workers_import_only_what_each_environment_is_given() -> None:
    imported = {name for path in FILES for name in _imports(path)}
    foreign = imported - set(sys.stdlib_module_names)

    assert "numpy" in foreign
    assert foreign - OF_BACKENDS <= {name.replace("-", "_") for name in NEEDED}


def _imports(path: Path) -> set[str]:
    """The packages outside of ours that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found
