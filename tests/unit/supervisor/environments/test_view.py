"""A worker in another Python sees the server's code for workers, and nothing else of its."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import environments

from tritonpy.supervisor.environments.view import make_view


@pytest.mark.parametrize("version", sorted(environments.interpreters()))
def test_a_worker_is_started_from_a_folder_with_its_own_code_alone(
    tmp_path: Path, version: str
) -> None:
    view = Path(make_view(str(tmp_path / "scratch")))
    libraries = tmp_path / "libraries"
    # In place of what is compiled, which is not there for this Python.
    (libraries / "msgspec").mkdir(parents=True)
    (libraries / "msgspec" / "__init__.py").write_text(
        "import json, sys\n"
        "from importlib import util\n"
        "print(json.dumps([sys.path, sys.argv, sorted(\n"
        "    name for name in ('worker', 'ipc', 'supervisor', 'proto')\n"
        "    if util.find_spec('tritonpy.' + name))]))\n"
        "raise SystemExit\n"
    )

    done = subprocess.run(
        [environments.interpreters()[version], "-I", "-S", str(view), str(libraries), "a", "b"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )

    assert done.stderr == ""
    path, arguments, parts = json.loads(done.stdout)
    assert path[0] == str(view)
    assert path[-1] == str(libraries)
    assert arguments[1:] == ["a", "b"]
    assert parts == ["ipc", "worker"]
    assert set(os.listdir(view / "tritonpy")) - {"__pycache__"} == {"__init__.py", "ipc", "worker"}
