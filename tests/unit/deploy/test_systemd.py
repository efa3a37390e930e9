"""The systemd unit is one that systemd understands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[3] / "deploy" / "systemd" / "tritonpy-supervisor.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # An unknown key is only printed, the exit status stays 0: any word about the unit is a failure.
    text, replaced = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/sh", UNIT.read_text())
    assert replaced == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    complaints = [
        line for line in (verified.stdout + verified.stderr).splitlines() if UNIT.stem in line
    ]
    assert complaints == []
    assert verified.returncode == 0


def test_the_unit_runs_a_command_line_that_the_server_accepts() -> None:
    from tritonpy.supervisor import cli, command_line

    (command,) = re.findall(r"(?m)^ExecStart=(.*)$", UNIT.read_text())
    program, subcommand, *arguments = command.split()
    assert program.endswith("/bin/tritonpy-supervisor")
    assert subcommand in cli.COMMANDS
    settings = command_line.parse(arguments)
    (stop,) = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", UNIT.read_text())
    assert int(stop) > settings.exit_timeout_secs


def test_what_is_kept_lies_in_a_folder_that_systemd_makes() -> None:
    text = UNIT.read_text()
    (folder,) = re.findall(r"(?m)^CacheDirectory=(.*)$", text)

    assert f"Environment=XDG_CACHE_HOME=%C/{folder}\n" in text
    assert "CacheDirectoryMode=0700\n" in text
