"""A model from Azure Storage, against Azurite."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from obstore.store import AzureStore
from support import models
from support.servers import serving

_KEY = base64.b64encode(b"a key of our own for the emulator").decode()


def _azurite() -> str | None:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    installed = f"{caches}/tritonpy-tests/node_modules/.bin/azurite-blob"
    return shutil.which("azurite-blob") or shutil.which(installed)


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[str]:
    """The address of an account `me`."""
    program = _azurite()
    if program is None:
        pytest.skip("azurite-blob is not installed; .ci/run shows how")
    process = subprocess.Popen(
        [
            program,
            "--blobPort=0",
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
            "--disableTelemetry",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "AZURITE_ACCOUNTS": f"me:{_KEY}"},
    )
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(r"listens? (?:on|at) (http://\S+:\d+)", said):
                break
        else:
            pytest.fail(f"azurite ended: {said}")
        yield f"{found[1]}/me"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_a_model_is_loaded_and_serves(azure: str, tmp_path: Path) -> None:
    _create_container(azure)
    store = AzureStore(
        "box",
        config={"account_name": "me", "account_key": _KEY, "endpoint": azure},
        client_options={"allow_http": True},
    )
    model = models.python_identity(tmp_path / "made", "copy")
    for path in model.rglob("*"):
        if path.is_file():
            store.put(f"models/{path.relative_to(model.parent)}", path.read_bytes())
    with (
        serving(
            arguments=[
                "--model-repository=as://me/box/models",
                f"--model-cache-directory={tmp_path / 'cache'}",
            ],
            environment={"AZURE_STORAGE_KEY": _KEY, "AZURE_STORAGE_ENDPOINT": azure},
        ) as server,
        http.InferenceServerClient(server.http) as client,
    ):
        tensor = http.InferInput("IN", [2], "FP32")
        tensor.set_data_from_numpy(np.array([1, 2], np.float32))
        assert client.infer("copy", [tensor]).as_numpy("OUT").tolist() == [1, 2]


def _create_container(azure: str) -> None:
    date = formatdate(usegmt=True)
    version = "2021-08-06"
    text = (
        "PUT\n\n\n\n\n\n\n\n\n\n\n\n"
        f"x-ms-date:{date}\nx-ms-version:{version}\n/me/me/box\nrestype:container"
    )
    digest = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(f"{azure}/box?restype=container", method="PUT")
    request.add_header("x-ms-date", date)
    request.add_header("x-ms-version", version)
    request.add_header("Authorization", f"SharedKey me:{base64.b64encode(digest).decode()}")
    urllib.request.urlopen(request, timeout=20).close()
