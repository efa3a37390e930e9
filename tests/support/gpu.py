"""A GPU's memory that is none: what clients allocate, and what workers find behind its handles."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import cuda_stand_in

_numbers = itertools.count(1)


class Allocation:
    """Memory that a client has on a GPU."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = path.name.encode().ljust(64, b"\0")

    @property
    def content(self) -> bytes:
        """What lies there now."""
        return self.path.read_bytes()

    def write(self, data: bytes) -> None:
        """Put something at its beginning."""
        with self.path.open("r+b") as file:
            file.write(data)


class Gpus:
    """Two GPUs, and the package that real workers take for cuda-python."""

    def __init__(self, folder: Path) -> None:
        self.memory = folder / "memory"
        self.memory.mkdir()
        package = folder / "packages" / "cuda" / "bindings"
        package.mkdir(parents=True)
        for path in (package.parent, package):
            (path / "__init__.py").touch()
        source = Path(cuda_stand_in.__file__).read_text()
        (package / "driver.py").write_text(source)
        self._packages = folder / "packages"

    @property
    def environment(self) -> Mapping[str, str]:
        """What workers must be started with to find them."""
        return {
            cuda_stand_in.MEMORY_VARIABLE: str(self.memory),
            "PYTHONPATH": str(self._packages),
        }

    def allocate(self, content: bytes | npt.NDArray[np.generic], device: int = 0) -> Allocation:
        """Memory of a client, with something in it."""
        path = self.memory / f"{device}-{next(_numbers)}"
        path.write_bytes(content if isinstance(content, bytes) else content.tobytes())
        return Allocation(path)
