"""TLS as gRPC wants it: the contents of the files, once they are known to be good."""

from __future__ import annotations

from pathlib import Path

import grpc

from ..settings import TlsSettings
from ..tls import server_context


def server_credentials(settings: TlsSettings) -> grpc.ServerCredentials | None:
    """What a port is opened with, None where it is not encrypted; reads the files, which blocks.

    Mutual TLS pre-empts plain TLS. Raises InvalidArgumentError that names the option and the file
    when one is missing, cannot be read or holds something else.
    """
    # OpenSSL checks the files: of wrong ones gRPC says only that it cannot listen.
    if server_context(settings, "grpc") is None:
        return None
    certificate = Path(settings.certificate).read_bytes()
    key = Path(settings.key).read_bytes()
    root = Path(settings.root).read_bytes() if settings.root else None
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=root, require_client_auth=settings.mutual
    )
