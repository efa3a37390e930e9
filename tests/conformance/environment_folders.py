"""The repository of models that name execution environments."""

from __future__ import annotations

from pathlib import Path

from .model_files import config, write_model


def environments(repository: Path) -> None:
    """Models that name an environment which is not there, and one that names none.

    What is there is not the same for both servers: here it holds a Python.
    """
    _model(repository, "unset", "")
    _model(repository, "missing", "/nowhere/env.tar.gz")
    _model(repository, "missing_inside", "$$TRITON_MODEL_DIRECTORY/env.tar.gz")
    _model(repository, "without_activate", "$$TRITON_MODEL_DIRECTORY/env")
    (repository / "without_activate" / "env" / "bin").mkdir(parents=True)


def _model(repository: Path, name: str, place: str) -> None:
    parameter = f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{place}" }} }}'
    write_model(repository, name, "echo", config(["IN FP32 -1"], ["OUT FP32 -1"], parameter))
