"""Whose keys a repository in the cloud is asked with, and what is said when it cannot be read."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tritonpy.ipc.errors import UnavailableError, UnsupportedError
from tritonpy.supervisor.repository.credentials import CREDENTIAL_FILE
from tritonpy.supervisor.repository.location import parse
from tritonpy.supervisor.repository.objects import Objects


def test_an_endpoint_where_nobody_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with socket.socket() as bound:  # bound and not listening: the connection is refused
        bound.bind(("127.0.0.1", 0))
        place = f"s3://127.0.0.1:{bound.getsockname()[1]}/bucket/models"
        with pytest.raises(UnavailableError, match=f"failed to list model repository '{place}'"):
            Objects(parse(place)).list()


def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'tritonpy-supervisor\[cloud\]'"):
        Objects(parse("gs://bucket/models")).list()


@pytest.fixture
def empty_s3() -> Iterator[tuple[str, list[Message]]]:
    """Host and port of an S3 whose buckets are empty, and the headers of what it was asked."""
    asked: list[Message] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

        def do_GET(self) -> None:
            asked.append(self.headers)
            body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("token", ["", "its"])
def test_keys_of_the_credential_file_go_without_a_token_of_the_environment(
    empty_s3: tuple[str, list[Message]],
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, asked = empty_s3
    file = tmp_path / "credentials.json"
    entry = {"key_id": "its-id", "secret_key": "secret", "session_token": token}
    file.write_text(json.dumps({"s3": {"": entry}}))
    monkeypatch.setenv(CREDENTIAL_FILE, str(file))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other-token")
    assert Objects(parse(f"s3://{place}/bucket/models")).list() == []
    (headers,) = asked
    assert "Credential=its-id/" in headers["authorization"]
    assert headers.get("x-amz-security-token", "") == token
