"""Bringing a repository to the local disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.repository.storage import localize


def test_a_local_folder_is_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert localize("models/") == str(tmp_path / "models")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgumentError, match="does not exist"):
        localize(str(tmp_path / "missing"))
    with pytest.raises(InvalidArgumentError, match="is a file, not a folder"):
        localize(str(tmp_path / "file"))
