"""What is said when a repository in the cloud cannot be read."""

from __future__ import annotations

import socket

import pytest

from tritonpy.ipc.errors import UnavailableError
from tritonpy.supervisor.repository.location import parse
from tritonpy.supervisor.repository.objects import Objects


def test_an_endpoint_where_nobody_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with socket.socket() as bound:  # bound and not listening: the connection is refused
        bound.bind(("127.0.0.1", 0))
        place = f"s3://127.0.0.1:{bound.getsockname()[1]}/bucket/models"
        with pytest.raises(UnavailableError, match=f"failed to list model repository '{place}'"):
            Objects(parse(place)).list()
