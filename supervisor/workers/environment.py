"""The environment variables that a worker starts with."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: What numerical libraries read to learn how many threads they may use.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

#: Libraries that report home unless they are told not to. An operator who wants that sets the
#: variable to 0.
_NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def worker_environment(
    *, visible_devices: str | None, threads: int, inherited: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a worker that may use these GPUs (None: ours) and so many threads.

    What the operator set is kept, apart from CUDA_VISIBLE_DEVICES, which pins the worker.
    """
    environment = dict(os.environ if inherited is None else inherited)
    if visible_devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible_devices
    # A line that a model prints should be in the log when it is printed, not when it is unloaded.
    environment["PYTHONUNBUFFERED"] = "1"
    for name in _THREAD_VARIABLES:
        environment.setdefault(name, str(threads))
    for name, value in _NO_TELEMETRY.items():
        environment.setdefault(name, value)
    return environment
