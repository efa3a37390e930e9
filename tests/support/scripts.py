"""Run and import what is no part of the package: the scripts of examples/ and files of models."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

from .servers import RunningServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_module(path: Path) -> Any:
    """The module in a file that is on no import path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(script: Path, *arguments: str | Path, timeout: float = 60) -> str:
    """Run a script as a user would, and return what it prints."""
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_client(server: RunningServer, protocol: str, name: str, *arguments: str | Path) -> str:
    """Run a client of the examples against a server, and return what it prints."""
    url = server.http if protocol == "http" else server.grpc
    script = EXAMPLES / "clients" / f"{name}.py"
    return run_script(script, "--protocol", protocol, "--url", url, *arguments)
