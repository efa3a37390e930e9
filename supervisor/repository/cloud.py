"""A model repository in the cloud: listed to know its models, downloaded to load one. Blocking."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from ...ipc.errors import InternalError, UnavailableError
from . import layout
from .cache import BlobCache
from .layout import ModelOnDisk
from .location import parse
from .objects import Objects, StoredObject
from .poller import Fingerprint

log = logging.getLogger(__name__)

#: Seconds between two lines about a download that takes long.
_PROGRESS_SECONDS = 5.0


class CloudRepository:
    """One repository and what the last look saw of its models."""

    def __init__(self, text: str, cache: BlobCache) -> None:
        self.location = parse(text)
        self._objects = Objects(self.location)
        self._cache = cache
        self._seen: dict[str, list[StoredObject]] = {}
        self._fetching = threading.Lock()
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<CloudRepository {self.location.text}: {len(self._seen)} models>"

    def close(self) -> None:
        """Have a download end at its next part."""
        self._closed.set()

    def find_models(self, config_name: str = "") -> list[ModelOnDisk]:
        """All models, from a listing; nothing is downloaded. Raises StatusError."""
        seen: dict[str, list[StoredObject]] = {}
        for item in self._objects.list():
            model, slash, _ = item.path.partition("/")
            if slash and not model.startswith(".") and layout.is_name(model):
                seen.setdefault(model, []).append(item)
        self._seen = seen
        return [self._model(name, config_name) for name in sorted(seen)]

    def find_model(self, name: str, config_name: str = "") -> ModelOnDisk | None:
        """One model, None when it is not there. Raises StatusError."""
        layout.check_name(name)
        items = [] if name.startswith(".") else self._objects.list(name)
        if not items:
            self._seen.pop(name, None)
            return None
        self._seen[name] = items
        return self._model(name, config_name)

    def fingerprint(self, model: str) -> Fingerprint:
        """What the last listing showed of a model: a change of an etag changes it."""
        return {
            path: (
                int.from_bytes(hashlib.sha256(item.etag.encode()).digest()[:8], "big"),
                item.size,
            )
            for path, item in self._files(model).items()
        }

    def fetch(self, model: str) -> None:
        """Bring a model's folder to what the last listing showed.

        Raises StatusError that names model, object and cause; the folder is then as it was.
        """
        with self._fetching:
            files = self._files(model)
            try:
                self._download(model, files)
                self._assemble(model, files)
            except OSError as error:
                raise InternalError(
                    f"model '{model}' of model repository '{self.location.text}' cannot be written "
                    f"to the model cache: {error.strerror or error}"
                ) from None

    def _model(self, name: str, config_name: str) -> ModelOnDisk:
        paths = list(self._files(name))
        return layout.from_paths(self.location.text, self._directory(name), paths, config_name)

    def _directory(self, model: str) -> str:
        place = hashlib.sha256(self.location.text.encode()).hexdigest()[:16]
        return os.path.join(self._cache.folder, place, model)

    def _files(self, model: str) -> dict[str, StoredObject]:
        """By path in the model's folder; consoles mark folders by objects that end in a slash."""
        items = {item.path[len(model) + 1 :]: item for item in self._seen.get(model, [])}
        return {
            path: item
            for path, item in items.items()
            if path and not any(part in ("", ".", "..") for part in path.split("/"))
        }

    def _key(self, item: StoredObject) -> str:
        return f"{self.location.text}\0{item.path}\0{item.etag}\0{item.size}"

    def _download(self, model: str, files: dict[str, StoredObject]) -> None:
        probe = f"{self._directory(model)}.probe"
        missing = [item for item in files.values() if not self._cache.link(self._key(item), probe)]
        if os.path.exists(probe):
            os.unlink(probe)
        if not missing:
            return
        total = sum(item.size for item in missing)
        progress = Progress(model, self.location.text, total)
        for item in missing:
            self._cache.store(self._key(item), progress.of(self._until_closed(model, item)))
        log.info(
            "downloaded %d files (%d bytes) of model '%s' from %s",
            len(missing),
            total,
            model,
            self.location.text,
        )

    def _until_closed(self, model: str, item: StoredObject) -> Iterator[memoryview]:
        try:
            for part in self._objects.read(item):
                if self._closed.is_set():
                    raise UnavailableError("the server is exiting")
                yield part
        except UnavailableError as error:
            raise UnavailableError(f"failed to download model '{model}': {error}") from None

    def _assemble(self, model: str, files: dict[str, StoredObject]) -> None:
        directory = self._directory(model)
        for path, item in files.items():
            target = os.path.join(directory, path)
            if os.path.isdir(target) and not os.path.islink(target):
                shutil.rmtree(target)
            if not self._cache.link(self._key(item), target):
                raise UnavailableError(
                    f"object {item.path} of model '{model}' was removed from the model cache "
                    "meanwhile: load the model again"
                )
        _remove_others(directory, files)


class Progress:
    """Tells of a download every few seconds."""

    def __init__(
        self,
        model: str,
        repository: str,
        total: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._repository = repository
        self._total = total
        self._done = 0
        self._clock = clock
        self._next = clock() + _PROGRESS_SECONDS

    def of(self, parts: Iterator[memoryview]) -> Iterator[memoryview]:
        """The parts, counted as they pass."""
        for part in parts:
            yield part
            self._done += len(part)
            now = self._clock()
            if now >= self._next:
                self._next = now + _PROGRESS_SECONDS
                log.info(
                    "downloading model '%s' from %s: %d of %d bytes",
                    self._model,
                    self._repository,
                    self._done,
                    self._total,
                )


def _remove_others(directory: str, keep: Iterable[str]) -> None:
    wanted = set(keep)
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, directory) not in wanted:
                os.unlink(path)
        if folder != directory and not os.listdir(folder):
            os.rmdir(folder)
