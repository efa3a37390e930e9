"""The client of Node, @grpc/grpc-js, on the lean transport; with TLS as well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import models
from support.servers import RunningServer, serving

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).resolve().parents[2]

#: Answers when its client has gone.
_SLOW = """
    import time

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                while not request.is_cancelled():
                    time.sleep(0.005)
                print("cancelled", flush=True)
            return [pb_utils.InferenceResponse([]) for request in requests]
"""


def _modules() -> Path | None:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    found = Path(caches, "tritonpy-tests", "node_modules")
    return found if (found / "@grpc" / "grpc-js").exists() else None


@pytest.fixture(params=["plain", "tls"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """The certificate that a client needs; None for a server without TLS."""
    if request.param == "plain":
        return None
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "root.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    return str(tmp_path / "root.pem")


@pytest.fixture
def server(tmp_path: Path, root: str | None) -> Iterator[RunningServer]:
    repository = tmp_path / "repository"
    models.identity(repository, "plain", "TYPE_UINT8")
    config = models.identity_config("TYPE_UINT8").replace("IN", "INPUT0", 1)
    models.python_model(repository, "slow", _SLOW, config)
    file = tmp_path / "server.pem"
    tls = ["--grpc-use-ssl=1", f"--grpc-server-cert={file}", f"--grpc-server-key={file}"]
    arguments = ["--grpc-transport=lean", *(tls if root else [])]
    with serving(repository, arguments=arguments) as running:
        yield running
        assert "Traceback" not in running.log


def ask(server: RunningServer, root: str | None) -> dict[str, Any]:
    """What the client was answered."""
    modules, node = _modules(), shutil.which("node")
    if modules is None or node is None:
        pytest.skip("node or @grpc/grpc-js is not installed; .ci/run shows how")
    script = _ROOT / "tests" / "support" / "grpc_client.js"
    done = subprocess.run(
        [
            node,
            script,
            server.grpc,
            _ROOT / "proto" / "grpc_service.proto",
            *([root] if root else []),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "NODE_PATH": str(modules)},
    )
    assert done.returncode == 0, done.stdout
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_grpc_js_is_served(server: RunningServer, root: str | None) -> None:
    same = {"same": True}
    found = ask(server, root)
    assert found.pop("deadline")["code"] == 4
    assert found == {
        "unary 0": same,
        "unary 1": same,
        "unary 70000": same,
        "unary 5000011": same,
        "many": 300,
        "error": {"code": 5, "details": "Request for unknown model: 'nöpe' is not found"},
        "stream": {"answers": [1, 70000, 5000011, 0], "code": 0},
        "stream error": {
            "answers": ["Request for unknown model: 'nope' is not found", 2],
            "code": 0,
        },
        "cancelled": {"code": 1},
        "compression 1": same,
        "compression 2": same,
    }
    server.wait_for_line("cancelled")
