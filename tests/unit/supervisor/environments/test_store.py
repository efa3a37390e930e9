"""The cache of environments on the disk: who may use, make and remove what."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tritonpy.supervisor.environments import store as module
from tritonpy.supervisor.environments.failure import EnvironmentFailure
from tritonpy.supervisor.environments.store import EnvironmentStore


@pytest.fixture
def store(tmp_path: Path) -> EnvironmentStore:
    made = EnvironmentStore(str(tmp_path / "cache"))
    made.open()
    return made


def make(store: EnvironmentStore, key: str = "key") -> None:
    construction = store.construct(key)
    assert construction is not None
    construction.begin()
    Path(construction.tree, "file").write_text("whole")
    construction.finish("what it was made from")


def test_what_was_made_is_shared_by_any_number(store: EnvironmentStore) -> None:
    assert store.share("key") is None
    make(store)

    first, second = store.share("key"), EnvironmentStore(store.directory).share("key")

    assert first is not None
    assert second is not None
    assert Path(first.tree, "file").read_text() == "whole"
    assert first.tree == second.tree
    first.release()
    first.release()
    second.release()


def test_it_is_made_by_one_at_a_time_and_not_used_meanwhile(store: EnvironmentStore) -> None:
    other = EnvironmentStore(store.directory)
    construction = store.construct("key")
    assert construction is not None
    construction.begin()

    assert other.construct("key") is None
    assert other.share("key") is None

    construction.finish("")
    assert other.construct("key") is None  # there is nothing left to do
    lease = other.share("key")
    assert lease is not None
    lease.release()


def test_what_was_left_unfinished_is_made_anew(store: EnvironmentStore) -> None:
    construction = store.construct("key")
    assert construction is not None
    construction.begin()
    Path(construction.tree, "half").write_text("")
    construction.close()  # as if the server had died

    assert store.share("key") is None
    again = store.construct("key")
    assert again is not None
    again.begin()
    assert os.listdir(again.tree) == []
    again.close()


def test_what_cannot_be_made_leaves_nothing(store: EnvironmentStore) -> None:
    construction = store.construct("key")
    assert construction is not None
    construction.begin()
    construction.abandon()

    assert os.listdir(store.directory) == ["key.lock"]
    assert store.share("key") is None


def test_a_start_clears_what_is_old_or_unfinished_and_not_in_use(store: EnvironmentStore) -> None:
    leases = []
    for key in ("old", "old-and-used", "new"):
        make(store, key)
    leases.append(store.share("old-and-used"))
    long_ago = time.time() - module.KEEP_SECONDS - 60
    for key in ("old", "old-and-used"):
        os.utime(Path(store.directory, f"{key}.lock"), (long_ago, long_ago))
    unfinished, running = store.construct("unfinished"), store.construct("running")
    assert unfinished is not None
    assert running is not None
    unfinished.begin()
    running.begin()
    unfinished.close()

    EnvironmentStore(store.directory).open()

    left = {name for name in os.listdir(store.directory) if not name.endswith(".lock")}
    assert left == {"old-and-used", "new", "running"}
    assert not Path(store.directory, "old.lock").exists()
    running.close()
    for lease in leases:
        assert lease is not None
        lease.release()


def test_use_keeps_an_environment_from_growing_old(store: EnvironmentStore) -> None:
    make(store)
    long_ago = time.time() - module.KEEP_SECONDS - 60
    os.utime(Path(store.directory, "key.lock"), (long_ago, long_ago))
    lease = store.share("key")
    assert lease is not None
    lease.release()

    EnvironmentStore(store.directory).open()

    assert Path(store.directory, "key").exists()


def test_a_cache_that_is_cleared_while_a_server_runs_is_filled_again(
    store: EnvironmentStore,
) -> None:
    make(store)
    for path in sorted(Path(store.directory).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    Path(store.directory).rmdir()

    make(store)

    lease = store.share("key")
    assert lease is not None
    lease.release()


def test_nobody_else_may_look_into_the_cache(store: EnvironmentStore) -> None:
    make(store)

    assert Path(store.directory).stat().st_mode & 0o777 == 0o700
    assert Path(store.directory, "key").stat().st_mode & 0o777 == 0o700
    assert Path(store.directory, "key", "tree").stat().st_mode & 0o777 == 0o700


def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)

    with pytest.raises(EnvironmentFailure, match="--environment-cache-directory") as caught:
        EnvironmentStore(str(tmp_path)).open()

    assert "with the permissions 770" in str(caught.value)


def test_a_cache_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(EnvironmentFailure, match="it belongs to user"):
        EnvironmentStore(str(tmp_path / "cache")).open()


def test_a_cache_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EnvironmentFailure, match="cannot be used: Not a directory"):
        EnvironmentStore(str(tmp_path / "file" / "cache")).open()


def test_the_cache_lies_where_the_user_has_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/caches")
    assert module.default_directory() == "/var/caches/tritonpy-environments"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert module.default_directory() == "/home/someone/.cache/tritonpy-environments"
