"""What models print is in the server's log, and printing harms nobody."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import tritonclient.http as http
from support import models
from support.servers import RunningServer, serving

#: Begins to print without end when it is asked for the first time.
FLOOD = """
    import sys, threading
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.printer = threading.Thread(target=self.flood, daemon=True)

        def flood(self):
            while True:
                sys.stdout.write("y\\n" * 500)

        def execute(self, requests):
            if not self.printer.is_alive():
                self.printer.start()
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy())])
                for r in requests
            ]
"""

LINES = """
    import os, sys
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            print("said at the start")
            os.write(2, b"a complaint\\n")
            print("x" * 20000)
            print('evil \\x1b[2J "quoted"')

        def execute(self, requests):
            return [pb_utils.InferenceResponse([]) for _ in requests]

        def finalize(self):
            sys.stdout.write("no newline at the end")
"""


def infer(client: http.InferenceServerClient, model: str) -> float:
    """Ask, and return how many seconds the answer took."""
    tensor = http.InferInput("IN", [2], "FP32")
    tensor.set_data_from_numpy(np.ones(2, np.float32))
    began = time.monotonic()
    client.infer(model, [tensor])
    return time.monotonic() - began


def lines(server: RunningServer, instance: str) -> list[str]:
    """The lines of the log that an instance wrote, without their beginning."""
    mark = f"[{instance}] "
    return [line.partition(mark)[2] for line in server.log.splitlines() if mark in line]


def test_a_model_that_prints_all_the_time_does_not_keep_the_others_from_answering(
    tmp_path: Path,
) -> None:
    models.python_model(tmp_path, "noisy", FLOOD, models.identity_config())
    models.python_identity(tmp_path, "quiet")
    with serving(tmp_path) as server, http.InferenceServerClient(server.http) as client:
        infer(client, "noisy")
        server.wait_for_line(r"\[noisy_0\] y")

        slowest = max(infer(client, model) for _ in range(50) for model in ("quiet", "noisy"))

        # A whole pipe of such lines at once would stop everything for a second.
        assert slowest < 0.5
        assert server.stop() == 0


def test_what_a_model_prints_is_logged_line_by_line_under_its_name(tmp_path: Path) -> None:
    models.python_model(tmp_path, "talks", LINES, models.identity_config())
    with serving(tmp_path) as server:
        assert server.stop() == 0
        said = lines(server, "talks_0")

    assert said[0].startswith("said at the start")
    assert sum(line.startswith("a complaint") for line in said) == 1
    assert "\x1b" not in server.log
    assert sum(line.count("x" * 1000) for line in said) == 19  # 8192 + 8192 + 3616
    assert said[-1].startswith("no newline at the end")


#: Logs at every stage of its life; the numbers are those of its lines.
SAYS = """\
import triton_python_backend_utils as pb_utils
pb_utils.Logger.log_info("at import, 2")
class TritonPythonModel:
    def __init__(self):
        pb_utils.Logger.log_warn("when made, 5")
    def initialize(self, args):
        pb_utils.Logger.log("when initialized, 7", pb_utils.Logger.ERROR)
    def execute(self, requests):
        raise ValueError("not here")
    def finalize(self):
        pb_utils.Logger.log(message="at the end, 11")
"""


def test_a_model_logs_at_every_stage_with_the_line_that_did(tmp_path: Path) -> None:
    models.python_model(tmp_path, "says", SAYS, models.identity_config())
    with serving(tmp_path) as server:
        assert server.stop() == 0
        log = server.log

    said = re.findall(r'^([IWE])\d+ .* model.py:(\d+)\] "\[says_0\] (.*), (\d+)"$', log, re.M)
    assert [(level, text) for level, _, text, _ in said] == [
        ("I", "at import"),
        ("W", "when made"),
        ("E", "when initialized"),
        ("I", "at the end"),
    ]
    assert [line for _, line, _, _ in said] == [wanted for _, _, _, wanted in said]
