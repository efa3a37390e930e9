"""What a model costs that is loaded, and a server that is idle: time and memory."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil
from servers import Launch, Server, ServerError

_MODEL = "identity_python"
_LISTED = 50
_MIB = 1 << 20
#: So long a server may take to bring up what it keeps in reserve.
_RESERVE_S = 3.0
_LOADS = 5

#: Makes the command of a server for a repository and more arguments.
Launcher = Callable[[Sequence[Path], Sequence[str]], Launch]


def load_ms(launcher: Launcher, models: Path) -> dict[str, float]:
    """How long a python model takes to load, on a server that has loaded one before.

    The median of some loads; between two of them the server has time to prepare. Raises ServerError
    """
    with _serving(launcher, models, [_MODEL]) as server:
        found: list[float] = []
        for _ in range(_LOADS + 1):
            begin = time.perf_counter()
            server.post(f"/v2/repository/models/{_MODEL}/load")
            found.append((time.perf_counter() - begin) * 1e3)
            server.post(f"/v2/repository/models/{_MODEL}/unload")
            time.sleep(_RESERVE_S)
        return {"load_ms": median(found[1:])}


def idle_memory(launcher: Launcher, models: Path) -> dict[str, float]:
    """What an idle server holds: with 50 models listed, and each of two python workers.

    Raises ServerError.
    """
    names = [f"{_MODEL}_{number}" for number in range(_LISTED)]
    with _serving(launcher, models, names) as server:
        time.sleep(_RESERVE_S)
        resident = server.processes()[0].memory_info().rss / _MIB
        for name in names[:2]:
            server.post(f"/v2/repository/models/{name}/load")
        time.sleep(_RESERVE_S)
        private = [
            process.memory_full_info().uss / _MIB
            for process in server.processes()
            if _serves(process, names[:2])
        ]
    if len(private) < 2:
        raise ServerError(f"{server.launch.name} shows {len(private)} workers of two")
    return {"supervisor_rss_mib": resident, "worker_uss_mib": median(private)}


def _serves(process: psutil.Process, names: Sequence[str]) -> bool:
    """Whether a process runs one of these models: its command line says so."""
    command = " ".join(process.cmdline()[1:])
    worker = "tritonpy.worker" in command or "triton_python_backend_stub" in process.name()
    return worker and any(f"{name}_" in command or f"/{name}/" in command for name in names)


@contextmanager
def _serving(launcher: Launcher, models: Path, names: Sequence[str]) -> Iterator[Server]:
    """A server of its own with copies of the model, none of them loaded."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        repository = Path(folder, "models")
        for name in names:
            shutil.copytree(models / _MODEL, repository / name)
        launch = launcher([repository], ["--model-control-mode=explicit"])
        with Server(launch, Path(folder, "log")) as server:
            yield server
