"""`check` says of a repository what serving it says, as processes and on the conformance models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conformance import setups
from conformance.case import Setup
from conformance.repositories import REPOSITORIES
from support import models
from support.clients import index
from support.servers import serving

#: What only the model's own code can tell, when it is run.
_TOLD_BY_THE_CODE = {
    "broken_import", "broken_init", "broken_completion", "broken_conflict", "broken_warmup",
    "of_broken", "patient",
}  # fmt: skip


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-P", "-m", "tritonpy.supervisor", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def found(folders: Sequence[Path], *arguments: str) -> dict[str, dict[str, Any]]:
    """What it found, by model."""
    done = check(*folders, "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    reports = json.loads(done.stdout)["models"]
    assert done.returncode == int(any(not report["ok"] for report in reports))
    return {report["name"]: report for report in reports}


def served(folders: Sequence[Path], *arguments: str) -> dict[str, bool]:
    """Whether each model is ready when the server has started."""
    with serving(*folders, arguments=arguments) as server:
        states: dict[str, bool] = {}
        for (name, _version), (state, _reason) in index(server).items():
            states[name] = states.get(name, True) and state == "READY"
        return states


_SETUPS = [
    setups.PROTOCOL, setups.CONTROL, setups.EXTENSIONS, setups.CACHED, setups.ENSEMBLES,
    setups.SHAPED, setups.BACKENDS,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("setup", _SETUPS, ids=lambda setup: setup.repository)
def test_its_verdicts_are_those_of_serving(setup: Setup, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    REPOSITORIES[setup.repository](repository)
    arguments = [one for one in setup.options(repository) if "control-mode" not in one]
    arguments = [one for one in arguments if "--load-model" not in one]
    folders = setup.repositories(repository)

    verdicts = {name: report["ok"] for name, report in found(folders, *arguments).items()}

    ready = served(folders, *arguments)
    assert verdicts.keys() == ready.keys()
    other = {name for name, ok in verdicts.items() if ok != ready[name]}
    assert other <= _TOLD_BY_THE_CODE


COUNTING = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            print("counting to", args["model_version"])
            pb_utils.Logger.log_warn("not far")
            self.much = bytearray(b"x" * (32 << 20))

        def execute(self, requests):
            return []
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Good and bad models, and an ensemble of the good ones."""
    models.python_model(tmp_path, "counting", COUNTING, models.identity_config())
    late = f"    import no_such_module\n{models.IDENTITY_PY}"
    models.python_model(tmp_path, "late", late, models.identity_config())
    models.python_model(tmp_path, "wrong", "def x(:\n", models.identity_config())
    models.python_identity(tmp_path, "plain")
    models.write(
        tmp_path / "pair" / "config.pbtxt",
        """
        platform: "ensemble"
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
        ensemble_scheduling { step [ {
          model_name: "plain" model_version: -1
          input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
        } ] }
        """,
    )
    (tmp_path / "pair" / "1").mkdir()
    return tmp_path


def test_nothing_is_run_unless_asked_for(repository: Path) -> None:
    marker = repository.parent / "was_run"
    code = f"    open({str(marker)!r}, 'w').close()\n{models.IDENTITY_PY}"
    models.python_model(repository, "eager", code, models.identity_config())

    done = check(repository)

    assert done.returncode == 1
    assert "late: ok (python, version 1)" in done.stdout
    assert f"error: {repository}/wrong/1/model.py:1: version 1: SyntaxError: " in done.stdout
    assert done.stdout.endswith("6 models: 1 error, 0 warnings, 0 notes\n")
    assert not marker.exists()
    assert not list(repository.rglob("__pycache__"))


def test_with_load_each_model_is_loaded_and_shows_its_log_and_memory(repository: Path) -> None:
    report = found([repository], "--load")

    loaded = report["counting"]["loaded"]
    assert loaded["ok"]
    assert loaded["memory_bytes"] > 32 << 20
    assert any("counting to 1" in line for line in loaded["log"])
    assert any(line.startswith("W") and "not far" in line for line in loaded["log"])
    assert not any("counting" in line for line in report["plain"]["loaded"]["log"])
    assert report["pair"]["loaded"]["ok"]
    assert not report["late"]["loaded"]["ok"]
    (finding,) = report["late"]["findings"]
    assert "No module named 'no_such_module'" in finding["message"]
    assert "loaded" not in report["wrong"], "it is known to fail"


def test_the_text_has_what_a_load_showed(repository: Path) -> None:
    done = check(repository / "counting", "--load")

    assert done.returncode == 0
    assert "counting: ok (python, version 1)\n  loaded in " in done.stdout
    assert "  | I [counting_0] counting to 1\n" in done.stdout
    assert done.stdout.endswith("1 model: 0 errors, 0 warnings, 0 notes\n")


def test_what_it_loaded_leaves_nothing_behind(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = repository.parent / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    assert check(repository / "plain", "--load").returncode == 0
    assert not list(runtime.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a folder is missing"),
        (["/no/such/folder"], "model repository '/no/such/folder' does not exist"),
        (["{}", "--http-prot=1"], "unknown option --http-prot: did you mean --http-port?"),
        (["{}", "{}/plain"], "checked one kind at a time: plain is the folder of a model"),
    ],
)
def test_wrong_arguments_end_with_status_2(
    repository: Path, arguments: list[str], message: str
) -> None:
    done = check(*(argument.format(repository) for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout
