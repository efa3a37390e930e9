"""Files of TLS: what is read, and how wrong ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.grpc.tls import server_credentials
from tritonpy.supervisor.settings import TlsSettings


@pytest.fixture
def good(tmp_path: Path) -> dict[str, Any]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    files = {part: str(tmp_path / f"{part}.pem") for part in ("certificate", "key", "root")}
    issued.cert_chain_pems[0].write_to_path(files["certificate"])
    issued.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["root"])
    return files


def test_a_port_without_tls_reads_no_files() -> None:
    assert server_credentials(TlsSettings(certificate="/nowhere", key="/nowhere")) is None


def test_good_files_make_credentials(good: dict[str, Any]) -> None:
    plain = server_credentials(TlsSettings(enabled=True, **(good | {"root": ""})))
    mutual = server_credentials(TlsSettings(mutual=True, **good))

    assert isinstance(plain, grpc.ServerCredentials)
    assert isinstance(mutual, grpc.ServerCredentials)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("certificate", "certificate.pem' of --grpc-server-cert and .* are no certificate and its"),
        ("key", "key.pem' of --grpc-server-key are no certificate and its key as PEM"),
        ("root", "root.pem' of --grpc-root-cert holds no certificates as PEM"),
    ],
)
@pytest.mark.parametrize("text", ["", "nothing of the kind"])
def test_a_file_that_is_no_pem_is_named(
    good: dict[str, Any], part: str, message: str, text: str
) -> None:
    Path(good[part]).write_text(text)

    with pytest.raises(InvalidArgumentError, match=message):
        server_credentials(TlsSettings(mutual=True, **good))


def test_the_key_of_another_certificate_is_refused(good: dict[str, Any]) -> None:
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(good["key"])

    with pytest.raises(InvalidArgumentError, match="key values mismatch"):
        server_credentials(TlsSettings(enabled=True, **good))


def test_a_key_with_a_password_is_refused_without_asking(good: dict[str, Any]) -> None:
    key = load_pem_private_key(Path(good["key"]).read_bytes(), None)
    Path(good["key"]).write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
        )
    )

    with pytest.raises(InvalidArgumentError, match="without a password"):
        server_credentials(TlsSettings(enabled=True, **good))


@pytest.mark.parametrize("part", ["certificate", "key", "root"])
def test_a_file_that_cannot_be_read_is_named(good: dict[str, Any], part: str) -> None:
    path = Path(good[part])
    path.unlink()
    path.mkdir()

    with pytest.raises(InvalidArgumentError, match=f"cannot be read: Is a directory: '{path}'"):
        server_credentials(TlsSettings(mutual=True, **good))
