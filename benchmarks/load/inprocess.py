"""What ONNX Runtime alone computes: a model called in a loop by a process that does nothing else.

python benchmarks/load/inprocess.py MODEL.onnx BATCH SECONDS    # prints images per second
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from measurement import LoadError

_WARM_UP_RUNS = 20


def images_per_s(model: Path, batch: int, window_s: float) -> float:
    """Call the model with batches of one size for a while, on one thread. Raises LoadError."""
    command = [sys.executable, __file__, str(model), str(batch), str(window_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"ONNX Runtime alone cannot run '{model}': {done.stderr[-500:]}")
    return float(done.stdout)


def _measure(model: str, batch: int, window_s: float) -> float:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (tensor,) = session.get_inputs()
    image = np.random.default_rng(1).random((batch, *tensor.shape[1:]), np.float32)
    for _ in range(_WARM_UP_RUNS):
        session.run(None, {tensor.name: image})
    runs = 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < window_s:
        session.run(None, {tensor.name: image})
        runs += 1
    return runs * batch / (time.perf_counter() - begin)


if __name__ == "__main__":
    print(_measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
