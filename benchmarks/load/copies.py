"""Count the bytes of tensors that the server copies for one request, by its own metric.

A 16 MiB tensor goes through one model, and through an ensemble of three, over HTTP and gRPC. What
an ensemble's steps hand on lies where it is, so the ensemble must cost what the one model does: one
request in, one answer out.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from servers import Server, own_launch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from record import machine, write

_MODELS = Path(__file__).resolve().parents[1] / "models" / "own"
_ELEMENTS = (16 << 20) // 4
_REQUESTS = 10
_METRIC = re.compile(r'^tritonpy_tensor_copied_bytes\{direction="(in|out)"\} (\d+)', re.MULTILINE)


def main() -> int:
    """Count, print, and keep the figures if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="write the results into RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        rows = _count(Path(folder))
    for row in rows:
        print(
            f"{row['model']:16}{row['protocol']:6}{row['in_mib']:8.2f} MiB in per request", end=""
        )
        print(f"{row['out_mib']:8.2f} MiB out per answer")
    if arguments.record:
        write("copies", {"machine": machine(), "copies": rows})
    return 0


def _count(folder: Path) -> list[dict[str, Any]]:
    launch = own_launch([_MODELS])
    rows: list[dict[str, Any]] = []
    with Server(launch, folder / "log") as server:
        for model in ("large_identity", "large_steps"):
            server.await_model(model)
            for protocol in ("http", "grpc"):
                before = _copied(folder / "log")
                _ask(server, protocol, model)
                after = _copied(folder / "log")
                inward, outward = (
                    (after[way] - before[way]) / _REQUESTS / (1 << 20) for way in ("in", "out")
                )
                rows.append(
                    {"model": model, "protocol": protocol, "in_mib": inward, "out_mib": outward}
                )
    return rows


def _copied(log: Path) -> dict[str, int]:
    """What the server says that it has copied so far."""
    found = re.search(r"Started Metrics Service at [\w.]+:(\d+)", log.read_text())
    assert found is not None, "the server tells the port of its metrics"
    with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=10) as answer:
        return {way: int(count) for way, count in _METRIC.findall(answer.read().decode())}


def _ask(server: Server, protocol: str, model: str) -> None:
    client_of: Any = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
    sent = np.arange(_ELEMENTS, dtype=np.float32)
    tensor = client_of.InferInput("INPUT0", [_ELEMENTS], "FP32")
    tensor.set_data_from_numpy(sent)
    with client_of.InferenceServerClient(server.address(protocol)) as client:
        for _ in range(_REQUESTS):
            found = client.infer(model, [tensor]).as_numpy("OUTPUT0")
            assert np.array_equal(found, sent), "the answer is what was sent"


if __name__ == "__main__":
    sys.exit(main())
