"""Models from a small Google Cloud Storage: loading, the cache, changes and faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from support import models
from support.gcs import SmallGcs, serving_gcs
from support.servers import RunningServer, serving

_REPOSITORY = "gs://bucket/deep/models"


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[SmallGcs]:
    with serving_gcs("bucket") as gcs:
        _upload(gcs, models.python_identity(tmp_path / "made", "copy"))
        yield gcs


def _upload(gcs: SmallGcs, model: Path) -> None:
    for path in model.rglob("*"):
        if path.is_file():
            gcs.objects[f"deep/models/{path.relative_to(model.parent)}"] = path.read_bytes()


def _start(gcs: SmallGcs, tmp_path: Path, *arguments: str) -> AbstractContextManager[RunningServer]:
    account = tmp_path / "account.json"
    key = {"private_key": "", "private_key_id": "", "client_email": ""}
    account.write_text(json.dumps({"gcs_base_url": gcs.url, "disable_oauth": True, **key}))
    return serving(
        arguments=[
            f"--model-repository={_REPOSITORY}",
            f"--model-cache-directory={tmp_path / 'cache'}",
            *arguments,
        ],
        environment={"GOOGLE_APPLICATION_CREDENTIALS": str(account)},
    )


def _infer(server: RunningServer, model: str = "copy") -> None:
    with http.InferenceServerClient(server.http) as client:
        tensor = http.InferInput("IN", [3], "FP32")
        tensor.set_data_from_numpy(np.array([1, 2, 3], np.float32))
        assert client.infer(model, [tensor]).as_numpy("OUT").tolist() == [1, 2, 3]


def test_a_restart_downloads_nothing_that_has_not_changed(gcs: SmallGcs, tmp_path: Path) -> None:
    with _start(gcs, tmp_path) as server:
        _infer(server)
    assert sorted(gcs.reads) == sorted(gcs.objects)
    gcs.reads.clear()
    with _start(gcs, tmp_path) as server:
        _infer(server)
    assert gcs.reads == []
    assert list((tmp_path / "cache" / "servers").iterdir()) == []


def test_equal_files_of_two_versions_are_kept_once(gcs: SmallGcs, tmp_path: Path) -> None:
    code = gcs.objects["deep/models/copy/1/model.py"]
    gcs.objects["deep/models/copy/2/model.py"] = code
    gcs.objects["deep/models/copy/config.pbtxt"] += b"version_policy { all {} }\n"
    with _start(gcs, tmp_path) as server:
        _infer(server)
        with http.InferenceServerClient(server.http) as client:
            assert client.is_model_ready("copy", "1")
            assert client.is_model_ready("copy", "2")
    assert len(list((tmp_path / "cache" / "blobs").iterdir())) == 2


def test_a_listing_downloads_no_model_that_is_not_loaded(gcs: SmallGcs, tmp_path: Path) -> None:
    with (
        _start(gcs, tmp_path, "--model-control-mode=explicit") as server,
        http.InferenceServerClient(server.http) as client,
    ):
        assert [entry["name"] for entry in client.get_model_repository_index()] == ["copy"]
        assert gcs.reads == []
        client.load_model("copy")
        _infer(server)
        client.unload_model("copy")
        gcs.reads.clear()
        client.load_model("copy")
        assert gcs.reads == []


def test_polling_follows_a_change_of_an_etag(gcs: SmallGcs, tmp_path: Path) -> None:
    poll = ("--model-control-mode=poll", "--repository-poll-secs=1")
    with _start(gcs, tmp_path, *poll) as server:
        _infer(server)
        gcs.reads.clear()
        gcs.objects["deep/models/copy/2/model.py"] = (
            gcs.objects["deep/models/copy/1/model.py"] + b"\n"
        )
        server.wait_for_line("successfully unloaded 'copy' version 1")
        _infer(server)
    assert gcs.reads == ["deep/models/copy/2/model.py"]


def test_an_object_that_vanishes_fails_its_model_and_leaves_nothing(
    gcs: SmallGcs, tmp_path: Path
) -> None:
    gcs.vanished.add("deep/models/copy/1/model.py")
    with (
        _start(gcs, tmp_path, "--model-control-mode=explicit") as server,
        http.InferenceServerClient(server.http) as client,
    ):
        with pytest.raises(Exception, match=r"model 'copy'.*copy/1/model\.py.*NotFound"):
            client.load_model("copy")
        kept = [path for path in (tmp_path / "cache").rglob("*") if path.name == "model.py"]
        assert kept == []
        gcs.vanished.clear()
        client.load_model("copy")
        _infer(server)
