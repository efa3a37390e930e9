"""The objects of a bucket: a thin shell around obstore. Everything here blocks on the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ...ipc.errors import InvalidArgumentError, StatusError, UnavailableError, UnsupportedError
from .credentials import StoreOptions, store_options
from .location import CloudLocation

#: Each part is a request with a time limit of its own, so a stalled download ends.
_PART_BYTES = 16 * 1024 * 1024
_REQUEST_TIMEOUT = "60s"
_CONNECT_TIMEOUT = "5s"
_RETRIES = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing showed it; `path` is relative to the repository."""

    path: str
    size: int
    etag: str


class Objects:
    """The objects below a location. Its methods may be called from any thread."""

    def __init__(self, location: CloudLocation) -> None:
        self._location = location
        self._store: Any = None

    def __repr__(self) -> str:
        return f"<Objects of {self._location.text}>"

    def list(self, folder: str = "") -> list[StoredObject]:
        """All objects below a folder, by path. Raises StatusError when they cannot be listed."""
        prefix = "/".join(part for part in (self._location.prefix, folder) if part)
        start = len(self._location.prefix) + 1 if self._location.prefix else 0
        try:
            pages = self._open().list(prefix=prefix or None)
            found = [
                StoredObject(
                    meta["path"][start:],
                    meta["size"],
                    _etag(meta),
                )
                for page in pages
                for meta in page
            ]
        except StatusError:
            raise
        except Exception as error:  # obstore raises its own kinds, and Python's
            raise self._failed("list", error) from None
        return sorted(found, key=lambda item: item.path)

    def read(self, item: StoredObject) -> Iterator[memoryview]:
        """The content of an object as it was listed, in parts.

        Raises StatusError when it cannot be had, or is no more what the listing showed.
        """
        path = "/".join(part for part in (self._location.prefix, item.path) if part)
        for start in range(0, item.size, _PART_BYTES):
            end = min(start + _PART_BYTES, item.size)
            try:
                result = self._open().get(path, options={"range": (start, end)})
                etag = _etag(result.meta)
                content = memoryview(result.bytes())
            except Exception as error:
                raise self._failed(f"read {item.path} of", error) from None
            if etag != item.etag or len(content) != end - start:
                raise UnavailableError(
                    f"object {item.path} of model repository '{self._location.text}' was changed "
                    "while it was read: load the model again when it is complete"
                )
            yield content

    def _open(self) -> Any:
        if self._store is None:
            self._store = _store(self._location)
        return self._store

    def _failed(self, what: str, error: Exception) -> StatusError:
        # The credential file may have been mended meanwhile: read it anew the next time.
        self._store = None
        reason = str(error).split("\n", 1)[0]
        return UnavailableError(
            f"failed to {what} model repository '{self._location.text}' in "
            f"{self._location.service}: {type(error).__name__}: {reason}"
        )


def _etag(meta: Any) -> str:
    # Azure quotes it with an object and not in a listing.
    return (meta.get("e_tag") or "").strip('"') or meta["last_modified"].isoformat()


def _store(location: CloudLocation) -> Any:
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise UnsupportedError(
            f"model repository '{location.text}' is kept in {location.service}, and that needs the "
            "package obstore: pip install 'tritonpy-supervisor[cloud]'"
        ) from None
    stores: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "as": AzureStore}
    options = store_options(location, os.environ)
    if location.scheme == "gs" and not options:
        options["skip_signature"] = True
    client = {
        "allow_http": True,
        "timeout": _REQUEST_TIMEOUT,
        "connect_timeout": _CONNECT_TIMEOUT,
    }
    more: dict[str, Any] = {}
    if {"access_key_id", "secret_access_key"} <= options.keys():
        more["credential_provider"] = _exactly(options)
    try:
        return stores[location.scheme](
            location.bucket, config=options, client_options=client, retry_config=_RETRIES, **more
        )
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise InvalidArgumentError(
            f"model repository '{location.text}' cannot be opened with the credentials that were "
            f"found: {reason}"
        ) from None


def _exactly(options: StoreOptions) -> Callable[[], dict[str, Any]]:
    """Takes S3's keys out of the options, and provides these and no others.

    Left in the options, they would be joined by a session token of the environment, which obstore
    reads too and which may belong to somebody else.
    """
    credential = {
        "access_key_id": options.pop("access_key_id"),
        "secret_access_key": options.pop("secret_access_key"),
        "token": options.pop("session_token", None),
        "expires_at": None,
    }
    return lambda: credential
