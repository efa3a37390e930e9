"""TLS on the gRPC port: who gets in, and files that are no use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as client
import trustme
from support import models
from support.servers import RunningServer, launch, serving
from support.transports import each_transport_for_all, option

pytestmark = each_transport_for_all

PATIENCE = 60.0


@dataclass(frozen=True)
class Files:
    """What an authority issued, as PEM files."""

    root: str
    certificate: str
    key: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


def issue(folder: Path, name: str) -> Files:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = Files(*(str(folder / f"{name}-{part}.pem") for part in ("root", "cert", "key")))
    authority.cert_pem.write_to_path(files.root)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(files.certificate, append=True)
    issued.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture(scope="module")
def ours(folder: Path) -> Files:
    return issue(folder, "ours")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Files:
    return issue(folder, "theirs")


@pytest.fixture(scope="module")
def repository(folder: Path) -> Path:
    models.identity(folder / "repository", "plain", "TYPE_FP32")
    return folder / "repository"


@pytest.fixture(scope="module")
def server(repository: Path, ours: Files, transport: str) -> Iterator[RunningServer]:
    arguments = [
        option(transport),
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={ours.certificate}",
        f"--grpc-server-key={ours.key}",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


@pytest.fixture(scope="module")
def mutual(repository: Path, ours: Files, theirs: Files, transport: str) -> Iterator[RunningServer]:
    arguments = [
        option(transport),
        "--grpc-use-ssl=false",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={ours.certificate}",
        f"--grpc-server-key={ours.key}",
        f"--grpc-root-cert={theirs.root}",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


def infer(server: RunningServer, **tls: object) -> list[float]:
    """One inference with these TLS options of the client."""
    tensor = client.InferInput("INPUT0", [2], "FP32")
    tensor.set_data_from_numpy(np.array([1, 2], np.float32))
    with client.InferenceServerClient(server.grpc, **tls) as connection:
        answer = connection.infer("plain", [tensor], client_timeout=20).as_numpy("OUTPUT0")
    assert answer is not None
    result: list[float] = answer.tolist()
    return result


def test_a_client_that_trusts_the_certificate_is_served(server: RunningServer, ours: Files) -> None:
    assert infer(server, ssl=True, root_certificates=ours.root) == [1, 2]


def test_nobody_is_served_without_tls(server: RunningServer, theirs: Files) -> None:
    with pytest.raises(client.InferenceServerException, match="UNAVAILABLE"):
        infer(server)
    with pytest.raises(client.InferenceServerException, match="UNAVAILABLE"):
        infer(server, ssl=True, root_certificates=theirs.root)


def test_mutual_tls_serves_those_whose_certificate_leads_to_the_root(
    mutual: RunningServer, ours: Files, theirs: Files
) -> None:
    assert infer(
        mutual,
        ssl=True,
        root_certificates=ours.root,
        private_key=theirs.key,
        certificate_chain=theirs.certificate,
    ) == [1, 2]


def test_mutual_tls_refuses_everybody_else(mutual: RunningServer, ours: Files) -> None:
    with pytest.raises(client.InferenceServerException, match="UNAVAILABLE"):
        infer(mutual, ssl=True, root_certificates=ours.root)
    with pytest.raises(client.InferenceServerException, match="UNAVAILABLE"):
        infer(
            mutual,
            ssl=True,
            root_certificates=ours.root,
            private_key=ours.key,
            certificate_chain=ours.certificate,
        )


def started_with(repository: Path, transport: str, *arguments: str) -> str:
    """The error that a server ends with which cannot be started so."""
    server = launch(repository, arguments=[option(transport), *arguments])
    try:
        assert server.process.wait(PATIENCE) == 1
        line = server.wait_for_line("error: creating server: .*")[0]
        assert "Traceback" not in server.log
        return line
    finally:
        server.stop()
        server.runtime_directory.rmdir()


def test_files_that_are_missing_end_the_start(
    repository: Path, ours: Files, folder: Path, transport: str
) -> None:
    certificate, key = f"--grpc-server-cert={ours.certificate}", f"--grpc-server-key={ours.key}"
    gone = folder / "gone.pem"

    assert "TLS on the gRPC port needs --grpc-server-cert" in started_with(
        repository, transport, "--grpc-use-ssl=1"
    )
    assert "TLS on the gRPC port needs --grpc-root-cert" in started_with(
        repository, transport, "--grpc-use-ssl-mutual=1", certificate, key
    )
    assert (
        f"the file of --grpc-server-key cannot be read: No such file or directory: '{gone}'"
        in started_with(
            repository, transport, "--grpc-use-ssl=1", certificate, f"--grpc-server-key={gone}"
        )
    )
