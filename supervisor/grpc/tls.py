"""The server's side of TLS: its certificate, its key, and whom it trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from ...ipc.errors import InvalidArgumentError
from ..settings import TlsSettings


def server_credentials(settings: TlsSettings) -> grpc.ServerCredentials | None:
    """What a port is opened with, None where it is not encrypted; reads the files, which blocks.

    Mutual TLS pre-empts plain TLS. Raises InvalidArgumentError that names the option and the file
    when one is missing, cannot be read or holds something else.
    """
    if not (settings.enabled or settings.mutual):
        return None
    certificate = _read("grpc-server-cert", settings.certificate)
    key = _read("grpc-server-key", settings.key)
    # Without mutual TLS nobody is asked for a certificate, and Triton does not insist on the file.
    root = _read("grpc-root-cert", settings.root) if settings.mutual or settings.root else None
    _check(settings)
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=root, require_client_auth=settings.mutual
    )


def _read(option: str, path: str) -> bytes:
    if not path:
        raise InvalidArgumentError(
            f"TLS on the gRPC port needs --{option}: name a file that holds it as PEM"
        )
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(
            f"the file of --{option} cannot be read: {error.strerror}: '{path}'"
        ) from None


def _check(settings: TlsSettings) -> None:
    """Let OpenSSL read the files: of wrong ones gRPC says only that it cannot listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certificate, settings.key, _no_password)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgumentError(
            f"'{settings.certificate}' of --grpc-server-cert and '{settings.key}' of "
            "--grpc-server-key are no certificate and its key as PEM, without a password: "
            f"{_reason(error)}"
        ) from None
    if settings.root:
        try:
            context.load_verify_locations(settings.root)
        except ssl.SSLError as error:
            raise InvalidArgumentError(
                f"'{settings.root}' of --grpc-root-cert holds no certificates as PEM: "
                f"{_reason(error)}"
            ) from None


def _no_password() -> str:
    """Keeps OpenSSL from asking on the terminal."""
    return ""


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).replace("_", " ").lower()
