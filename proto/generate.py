"""Generates the *_pb2 modules from our .proto files, or with --check says whether they are stale.

Run `python -P -m tritonpy.proto.generate` with the grpcio-tools of the `dev` extra installed: its
version sets the oldest protobuf runtime that the generated code accepts.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROTOS = ("model_config", "grpc_service", "health", "reflection")

#: Generated code is read by machines: no linter, formatter or type checker has a say in it.
_MODULE_HEADER = "# type: ignore\n"
_STUB_HEADER = "# mypy: ignore-errors\n# pyright: basic\n# ruff: noqa\n# fmt: off\n"

_DEFAULT_POOL_IMPORT = "from google.protobuf import descriptor_pool as _descriptor_pool\n"
_DEFAULT_POOL = "_descriptor_pool.Default()"
_SIBLING_IMPORT = re.compile(r"^import (\w+_pb2) as ", re.MULTILINE)


class GenerationError(Exception):
    """Raised when protoc fails, or writes something that the rewriting does not recognise."""


def generate() -> dict[str, str]:
    """Run protoc over our .proto files; return the rewritten files by their names."""
    with tempfile.TemporaryDirectory() as folder:
        sources = [f"{name}.proto" for name in PROTOS]
        command = [sys.executable, "-P", "-m", "grpc_tools.protoc", f"-I{FOLDER}"]
        command += [f"--python_out={folder}", f"--pyi_out={folder}", *sources]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise GenerationError(f"protoc failed: {done.stderr.strip()}")
        files: dict[str, str] = {}
        for name in PROTOS:
            module = Path(folder, f"{name}_pb2.py").read_text(encoding="utf-8")
            stub = Path(folder, f"{name}_pb2.pyi").read_text(encoding="utf-8")
            files[f"{name}_pb2.py"] = _MODULE_HEADER + rewrite_module(f"{name}_pb2", module)
            files[f"{name}_pb2.pyi"] = _STUB_HEADER + rewrite_imports(stub)
    return files


def rewrite_module(name: str, text: str) -> str:
    """Register the module in our pool, import its siblings relatively, and name its true place."""
    text = _replace_once(text, _DEFAULT_POOL_IMPORT, "from .pool import POOL as _POOL\n")
    text = _replace_once(text, _DEFAULT_POOL, "_POOL")
    text = _replace_once(
        text, f"(DESCRIPTOR, '{name}', _globals)", "(DESCRIPTOR, __name__, _globals)"
    )
    return rewrite_imports(text)


def rewrite_imports(text: str) -> str:
    """Import sibling modules relatively."""
    return _SIBLING_IMPORT.sub(r"from . import \1 as ", text)


def _replace_once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise GenerationError(
            f"expected {old.strip()!r} once in protoc's output, got {text.count(old)}"
        )
    return text.replace(old, new)


def stale(files: dict[str, str]) -> list[str]:
    """The names of those files whose checked-in text differs, or that are not checked in."""
    return [
        name
        for name, text in files.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files, or compare them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tritonpy.proto.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when stale")
    options = parser.parse_args(arguments)
    try:
        files = generate()
    except GenerationError as error:
        print(error, file=sys.stderr)
        return 2
    old = stale(files)
    if options.check:
        for name in old:
            print(
                f"{FOLDER / name} is stale: run python -m tritonpy.proto.generate", file=sys.stderr
            )
        return 1 if old else 0
    for name in old:
        (FOLDER / name).write_text(files[name], encoding="utf-8")
        print(f"wrote {FOLDER / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
