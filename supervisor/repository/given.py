"""A model's folder made of the files that a load request brought along.

    <private folder>/<model>/<version>/...

The folder is the server's own and nobody else may look into it. Whoever uses it holds it; the last
one to let go has it removed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping

from ...ipc.errors import InternalError, InvalidArgumentError

log = logging.getLogger(__name__)

#: More files than a model has; each costs an inode.
_MOST_FILES = 10_000


class GivenFolder:
    """A model's folder with one holder, who has built it."""

    def __init__(self, private: str, model: str) -> None:
        self._private = private
        self._holders = 1
        self.repository = private
        self.directory = os.path.join(private, model)

    def __repr__(self) -> str:
        return f"<GivenFolder {self.directory}: {self._holders} holders>"

    def hold(self) -> None:
        """Keep it for one user more."""
        self._holders += 1

    def release(self) -> None:
        """One user needs it no more. On the event loop; the removal happens in a thread."""
        self._holders -= 1
        if not self._holders:
            asyncio.get_running_loop().run_in_executor(None, self.remove)

    def remove(self) -> None:
        """Remove it now. Blocking."""
        shutil.rmtree(self._private, ignore_errors=True)


def build(parent: str, model: str, files: Mapping[str, bytes]) -> GivenFolder:
    """Write the files, by their paths in the model's folder, below a new private folder. Blocking.

    `model` is the name of a folder. Raises InvalidArgumentError for a path that leads out of the
    folder or does not fit the others, InternalError when it cannot be written. Nothing is left
    then.
    """
    if len(files) > _MOST_FILES:
        raise InvalidArgumentError(
            f"the load request of model '{model}' brings {len(files)} files along, and at most "
            f"{_MOST_FILES} are taken"
        )
    for path in files:
        _check(model, path)
    try:
        private = tempfile.mkdtemp(prefix="given-", dir=parent)
    except OSError as error:
        raise _not_written(model, error) from None
    folder = GivenFolder(private, model)
    try:
        for path, content in files.items():
            _write(model, folder.directory, path, content)
    except BaseException:
        folder.remove()
        raise
    return folder


def _check(model: str, path: str) -> None:
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InvalidArgumentError(
            f"load parameter 'file:{path}' of model '{model}' must name a file inside the model's "
            "folder, such as file:1/model.onnx: without '.', '..' and a leading slash"
        )


def _write(model: str, directory: str, path: str, content: bytes) -> None:
    target = os.path.join(directory, path)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "xb") as file:
            file.write(content)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise InvalidArgumentError(
            f"load parameter 'file:{path}' of model '{model}': another one names the same path, or "
            "makes a file of a folder of it"
        ) from None
    except OSError as error:
        raise _not_written(model, error) from None


def _not_written(model: str, error: OSError) -> InternalError:
    return InternalError(
        f"the files given to load '{model}' cannot be written to the server's disk: "
        f"{error.strerror or error}"
    )
