"""The door to model repositories, wherever they are kept."""

from __future__ import annotations

import os

from ...ipc.errors import InvalidArgumentError
from . import layout, poller
from .cache import BlobCache
from .cloud import CloudRepository
from .layout import ModelOnDisk
from .location import is_cloud
from .poller import Fingerprint

_MOUNTS = {
    "s3": "TRITON_AWS_MOUNT_DIRECTORY",
    "gs": "TRITON_GCS_MOUNT_DIRECTORY",
    "as": "TRITON_AZURE_MOUNT_DIRECTORY",
}


class Storage:
    """The repositories that the options named. Everything here blocks.

    The cache of cloud repositories is opened with the first of them.
    """

    def __init__(self, cache_directory: str = "") -> None:
        self._cache_directory = cache_directory
        self._caches: dict[str, BlobCache] = {}
        self._clouds: dict[str, CloudRepository] = {}

    def __repr__(self) -> str:
        return f"<Storage with {len(self._clouds)} cloud repositories>"

    def find_models(self, repository: str, config_name: str) -> list[ModelOnDisk]:
        """All models of a repository. Raises StatusError when it cannot be read."""
        if is_cloud(repository):
            return self._cloud(repository).find_models(config_name)
        return layout.find_models(localize(repository), config_name)

    def find_model(self, repository: str, model: str, config_name: str) -> ModelOnDisk | None:
        """One model of a repository. Raises StatusError when it cannot be read."""
        if is_cloud(repository):
            return self._cloud(repository).find_model(model, config_name)
        return layout.find_model(localize(repository), model, config_name)

    def fingerprint(self, place: ModelOnDisk) -> Fingerprint:
        """What a model's files look like, by their paths in its folder."""
        if cloud := self._clouds.get(place.repository):
            return cloud.fingerprint(place.name)
        return poller.fingerprint(place.directory)

    def fetch(self, place: ModelOnDisk) -> None:
        """Have a model's files on the local disk. Raises StatusError."""
        if cloud := self._clouds.get(place.repository):
            cloud.fetch(place.name)

    def stop_fetching(self) -> None:
        """Have downloads that are under way end soon. Does not block."""
        for cloud in self._clouds.values():
            cloud.close()

    def close(self) -> None:
        """Remove what was assembled; the cache stays."""
        for cache in self._caches.values():
            cache.close()

    def _cloud(self, repository: str) -> CloudRepository:
        if repository not in self._clouds:
            directory = self._cache_directory or _default_cache(repository.partition("://")[0])
            if directory not in self._caches:
                cache = BlobCache(directory)
                cache.open()
                self._caches[directory] = cache
            self._clouds[repository] = CloudRepository(repository, self._caches[directory])
        return self._clouds[repository]


def _default_cache(scheme: str) -> str:
    """Where Triton's variable says, else where the user's caches are."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    mount = os.environ.get(_MOUNTS[scheme])
    return os.path.join(mount or caches, "tritonpy-models")


def localize(location: str) -> str:
    """The absolute path of the folder that `--model-repository` named. Blocking.

    Raises InvalidArgumentError for what is no folder.
    """
    path = os.path.abspath(location)
    if not os.path.isdir(path):
        found = "is a file, not a folder" if os.path.exists(path) else "does not exist"
        raise InvalidArgumentError(f"model repository '{location}' {found}")
    return path
