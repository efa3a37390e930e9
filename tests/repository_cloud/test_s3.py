"""Models from S3, against moto's server."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from moto.server import ThreadedMotoServer
from obstore.store import S3Store
from support import models
from support.servers import launch, serving

_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def s3() -> Iterator[str]:
    """Host and port of an S3."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop()


def test_a_model_is_loaded_and_serves(s3: str, tmp_path: Path) -> None:
    urllib.request.urlopen(urllib.request.Request(f"http://{s3}/bucket", method="PUT")).close()
    store = S3Store(
        "bucket",
        config={
            "endpoint": f"http://{s3}",
            "access_key_id": "key",
            "secret_access_key": "secret",
            "region": "us-east-1",
            "virtual_hosted_style_request": False,
        },
        client_options={"allow_http": True},
    )
    model = models.python_identity(tmp_path / "made", "copy")
    for path in model.rglob("*"):
        if path.is_file():
            store.put(f"models/{path.relative_to(model.parent)}", path.read_bytes())
    cache = f"--model-cache-directory={tmp_path / 'cache'}"
    with (
        serving(
            arguments=[f"--model-repository=s3://{s3}/bucket/models", cache], environment=_KEYS
        ) as server,
        http.InferenceServerClient(server.http) as client,
    ):
        tensor = http.InferInput("IN", [2], "FP32")
        tensor.set_data_from_numpy(np.array([1, 2], np.float32))
        assert client.infer("copy", [tensor]).as_numpy("OUT").tolist() == [1, 2]


def test_a_bucket_that_is_missing_ends_the_start(s3: str, tmp_path: Path) -> None:
    server = launch(
        arguments=[
            f"--model-repository=s3://{s3}/nowhere/models",
            f"--model-cache-directory={tmp_path / 'cache'}",
        ],
        environment=_KEYS,
    )
    try:
        server.wait_for_line(r"failed to list model repository 's3://[^']*nowhere/models' in S3")
        assert server.process.wait(60) != 0
    finally:
        server.stop()
