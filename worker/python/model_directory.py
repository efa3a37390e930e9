"""Where the files of the model's version are."""

from __future__ import annotations

from .errors import TritonModelException

_directory = ""


def get_model_dir() -> str:
    """The folder of the model's version. Raises TritonModelException outside of a worker."""
    if not _directory:
        raise TritonModelException("get_model_dir is only available to a model in a worker.")
    return _directory


def set_model_dir(directory: str) -> None:
    """Say where the version's files are. A worker serves one version, and says so once."""
    global _directory
    _directory = directory
