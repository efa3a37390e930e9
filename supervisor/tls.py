"""The server's side of TLS: its certificate, its key, and whom it trusts, read from PEM files."""

from __future__ import annotations

import ssl
from typing import Literal

from ..ipc.errors import InvalidArgumentError
from .settings import TlsSettings

_TITLES = {"http": "HTTP", "grpc": "gRPC"}


def server_context(
    settings: TlsSettings, service: Literal["http", "grpc"]
) -> ssl.SSLContext | None:
    """How connections of a service are encrypted, None when they are not; reads files.

    Mutual TLS pre-empts plain TLS. Raises InvalidArgumentError that names the option and the file
    when one is missing, cannot be read or holds something else.
    """
    if not (settings.enabled or settings.mutual):
        return None
    _check_readable(f"{service}-server-cert", settings.certificate, service)
    _check_readable(f"{service}-server-key", settings.key, service)
    if settings.mutual or settings.root:  # Triton does not insist on the file otherwise
        _check_readable(f"{service}-root-cert", settings.root, service)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key, _no_password)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgumentError(
            f"'{settings.certificate}' of --{service}-server-cert and '{settings.key}' of "
            f"--{service}-server-key are no certificate and its key as PEM, without a password: "
            f"{_reason(error)}"
        ) from None
    if settings.root:
        try:
            context.load_verify_locations(settings.root)
        except ssl.SSLError as error:
            raise InvalidArgumentError(
                f"'{settings.root}' of --{service}-root-cert holds no certificates as PEM: "
                f"{_reason(error)}"
            ) from None
    if settings.mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_readable(option: str, path: str, service: str) -> None:
    if not path:
        raise InvalidArgumentError(
            f"TLS on the {_TITLES[service]} port needs --{option}: name a file that holds it as PEM"
        )
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise InvalidArgumentError(
            f"the file of --{option} cannot be read: {error.strerror}: '{path}'"
        ) from None


def _no_password() -> str:
    """Keeps OpenSSL from asking on the terminal."""
    return ""


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).replace("_", " ").lower()
