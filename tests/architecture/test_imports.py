"""Who imports whom, and that every module stands on its own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("ipc", "proto", "supervisor", "worker")

#: Modules of the package that need what an extra brings, which tests have.
MODULES = sorted(
    ".".join(("tritonpy", *path.relative_to(ROOT).with_suffix("").parts))
    for part in PARTS
    for path in (ROOT / part).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)

#: Imports each module that it is told of in a fork of its own, so that none finds what another has
#: imported. Python itself is started but once.
IMPORT_EACH = """
import importlib, json, os, sys, traceback
failed = {}
for name in json.load(sys.stdin):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
            status = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-4000:])
            status = 1
        os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as file:
        said = file.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        failed[name] = said
json.dump(failed, sys.stdout)
"""

#: Imports the whole server, and says what came with it.
IMPORT_SERVER = """
import json, sys
import tritonpy.supervisor.server
json.dump(sorted(sys.modules), sys.stdout)
"""

FRAMEWORKS = {"cuda", "onnxruntime", "openvino", "tensorflow", "tensorrt", "torch"}


def python(code: str, given: str = "") -> str:
    """Run a program in a fresh interpreter, away from the repository; returns what it says."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_contracts_are_kept() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "COLUMNS": "200"}

    done = subprocess.run(
        [str(lint_imports), "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.slow
def test_every_module_can_be_imported_alone() -> None:
    halves = [json.dumps(MODULES[0::2]), json.dumps(MODULES[1::2])]
    with ThreadPoolExecutor(2) as threads:
        answers = threads.map(partial(python, IMPORT_EACH), halves)

    failed = {name: said for answer in answers for name, said in json.loads(answer).items()}

    assert not failed, "\n".join(failed.values())


def test_all_modules_are_found() -> None:
    assert len(MODULES) > 100
    assert "tritonpy.worker.python.pb_utils" in MODULES


def test_the_server_imports_no_framework_and_nothing_of_the_workers() -> None:
    imported = json.loads(python(IMPORT_SERVER))

    assert FRAMEWORKS.isdisjoint(name.partition(".")[0] for name in imported)
    assert not [name for name in imported if name.startswith("tritonpy.worker")]
    assert "tritonpy.supervisor.workers.pool" in imported


def test_a_worker_imports_no_wire_protocol() -> None:
    code = IMPORT_SERVER.replace("tritonpy.supervisor.server", "tritonpy.worker.main")
    imported = json.loads(python(code))

    assert {"aiohttp", "google", "grpc", "orjson", "uvloop"}.isdisjoint(imported)
    assert not [name for name in imported if name.startswith(("tritonpy.proto", "tritonpy.super"))]
    assert FRAMEWORKS.isdisjoint(imported)


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "worker").rglob("*.py"), *(ROOT / "ipc").rglob("*.py")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_workers_are_written_in_python_3_10(path: Path) -> None:
    """A model's own interpreter may be older than the server's."""
    ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10))


#: What Python 3.11 and later brought to the standard library, as far as one is tempted.
_NEWER: dict[str, set[str]] = {
    "asyncio": {"Runner", "TaskGroup", "timeout", "timeout_at"},
    "contextlib": {"chdir"},
    "datetime": {"UTC"},
    "enum": {"EnumCheck", "ReprEnum", "StrEnum", "member", "nonmember", "verify"},
    "itertools": {"batched"},
    "tomllib": set(),
    "typing": {
        *("LiteralString", "Never", "NotRequired", "Required", "Self", "TypeVarTuple", "Unpack"),
        *("assert_never", "assert_type", "dataclass_transform", "override", "reveal_type"),
    },
}


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "worker").rglob("*.py"), *(ROOT / "ipc").rglob("*.py")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_workers_use_the_library_of_python_3_10(path: Path) -> None:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in _NEWER:
            found += [name.name for name in node.names if name.name in _NEWER[node.module]]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name == "tomllib"]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in _NEWER.get(node.value.id, ()):
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id in ("ExceptionGroup", "BaseExceptionGroup"):
            found.append(node.id)
        elif isinstance(node, ast.keyword) and node.arg == "process_group":
            found.append("process_group")

    assert not found
