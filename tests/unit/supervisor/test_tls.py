"""TLS of the HTTP port: what its files must be. Those of gRPC are tested beside its transport."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from msgspec.structs import replace

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.settings import TlsSettings
from tritonpy.supervisor.tls import server_context


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert")
    issued.private_key_pem.write_to_path(folder / "key")
    authority.cert_pem.write_to_path(folder / "root")
    return TlsSettings(
        enabled=True,
        certificate=str(folder / "cert"),
        key=str(folder / "key"),
        root=str(folder / "root"),
    )


def test_without_tls_no_file_is_read() -> None:
    assert server_context(TlsSettings(certificate="/nonexistent"), "http") is None


def test_clients_are_asked_for_certificates_only_when_it_is_mutual(good: TlsSettings) -> None:
    plain = server_context(good, "http")
    mutual = server_context(replace(good, enabled=False, mutual=True), "http")
    assert plain is not None
    assert mutual is not None
    assert plain.verify_mode is ssl.CERT_NONE
    assert mutual.verify_mode is ssl.CERT_REQUIRED
    assert plain.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("field", "option"),
    [("certificate", "http-server-cert"), ("key", "http-server-key"), ("root", "http-root-cert")],
)
def test_a_wrong_file_is_named_with_its_option(
    good: TlsSettings, tmp_path: Path, field: str, option: str
) -> None:
    mutual = replace(good, mutual=True)
    with pytest.raises(InvalidArgumentError, match=f"HTTP port needs --{option}"):
        server_context(replace(mutual, **{field: ""}), "http")
    with pytest.raises(InvalidArgumentError, match=f"--{option} cannot be read: No such file"):
        server_context(replace(mutual, **{field: str(tmp_path / "nope")}), "http")
    (tmp_path / "text").write_text("no PEM")
    with pytest.raises(InvalidArgumentError, match=f"--{option}"):
        server_context(replace(mutual, **{field: str(tmp_path / "text")}), "http")


def test_the_key_of_another_certificate_is_refused(good: TlsSettings, tmp_path: Path) -> None:
    other = tmp_path / "key"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(other)
    with pytest.raises(InvalidArgumentError, match="no certificate and its key"):
        server_context(replace(good, key=str(other)), "http")
