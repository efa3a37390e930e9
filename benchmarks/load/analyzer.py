"""Drive a server with Triton's perf_analyzer and read its report."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from measurement import Load, LoadError, Payload
from rival import Program
from servers import end_with_parent

#: How far apart, in percent, three windows in a row may lie. Its own default of 10 is for quiet
#: machines; where even this fails the last report is taken as it is, by the second number.
_STABILITY = ("50", "999")
_TIMEOUT_S = 300.0


def drive(
    program: Program,
    address: str,
    protocol: str,
    model: str,
    concurrency: int,
    window_s: float,
    shapes: Mapping[str, Sequence[int]],
    payload: Payload = "binary",
    output_bytes: int = 0,
) -> Load:
    """Send random tensors to a model until three windows agree. Raises LoadError.

    `output_bytes` is the size of the region for an output in shared memory.
    """
    output = ""
    for stability in _STABILITY:
        with tempfile.TemporaryDirectory(prefix="perf_analyzer-") as folder:
            report = Path(folder, "report.csv")
            command = [
                str(program.path),
                *("-m", model, "-u", address, "-i", protocol),
                *("--concurrency-range", str(concurrency)),
                *("-p", str(round(window_s * 1000)), "-s", stability, "-f", str(report)),
            ]
            if payload == "json":
                command += ["--input-tensor-format", "json", "--output-tensor-format", "json"]
            if payload == "shm":
                command += ["--shared-memory", "system"]
                command += ["--output-shared-memory-size", str(output_bytes)]
            for name, shape in shapes.items():
                command += ["--shape", f"{name}:{','.join(map(str, shape))}"]
            output = _run(program, command)
            if report.exists():
                return _read(report)
    raise LoadError(f"perf_analyzer reports nothing for '{model}' at {address}:\n{output[-2000:]}")


def _run(program: Program, command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            preexec_fn=end_with_parent,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"perf_analyzer has not ended within {_TIMEOUT_S:.0f} s") from error
    return done.stdout


def _read(report: Path) -> Load:
    with report.open(newline="") as file:
        row = next(csv.DictReader(file), None)
    if row is None:
        raise LoadError("perf_analyzer wrote an empty report")
    return Load(
        float(row["Inferences/Second"]), float(row["p50 latency"]), float(row["p99 latency"])
    )
