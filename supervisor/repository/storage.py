"""Bring a model repository to the local disk, wherever it is kept."""

from __future__ import annotations

import os

from ...ipc.errors import InvalidArgumentError, UnsupportedError

_CLOUD = {"s3://": "S3", "gs://": "Google Cloud Storage", "as://": "Azure Storage"}


def localize(location: str) -> str:
    """The absolute path of the folder that `--model-repository` named. Blocking.

    Raises UnsupportedError for a cloud repository and InvalidArgumentError for what is no folder.
    """
    for scheme, service in _CLOUD.items():
        if location.startswith(scheme):
            raise UnsupportedError(
                f"model repository '{location}' is kept in {service}, and cloud repositories are "
                "not supported yet: copy it to a local folder and name that"
            )
    path = os.path.abspath(location)
    if not os.path.isdir(path):
        found = "is a file, not a folder" if os.path.exists(path) else "does not exist"
        raise InvalidArgumentError(f"model repository '{location}' {found}")
    return path
