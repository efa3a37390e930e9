"""The models as they lie in the repositories: where they are, and what their files say of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from msgspec.structs import replace

from ...ipc.errors import InvalidArgumentError, NotFoundError, StatusError
from ..config.artefacts import complete_from_files
from ..config.locate import Source
from ..config.parse import from_file
from ..config.schema import ModelConfig, ModelVersionPolicy, Specific
from ..config.validate import check_as_written
from ..repository import layout, poller, versions
from ..repository.layout import ModelOnDisk
from ..repository.storage import Storage
from ..settings import Settings
from .identifier import ModelIdentifier, meant
from .load_request import LoadRequest

log = logging.getLogger(__name__)

_PLAIN = LoadRequest()


class Catalogue:
    """What the last look at the repositories saw. Methods that are not async may block."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._namespacing = settings.models.namespacing
        #: Without namespacing a model may lie in several repositories, and is no use then.
        self._found: dict[ModelIdentifier, list[ModelOnDisk]] = {}
        self.storage = Storage(settings.models.cache_directory)

    def __repr__(self) -> str:
        return f"<Catalogue of {len(self._found)} models>"

    @property
    def config_name(self) -> str:
        """The configuration file to prefer, "" for none."""
        return self._settings.models.config_name

    @property
    def identifiers(self) -> list[ModelIdentifier]:
        """The models that were found, wherever."""
        return list(self._found)

    def named(self, model: str, home: str = "") -> Sequence[ModelIdentifier]:
        """The models of this name that a client, or a model in the namespace `home`, can mean."""
        return meant([one for one in self._found if one.name == model], home)

    async def look(self, model: str | None = None) -> None:
        """Look at the repositories, or at one model in them.

        Raises StatusError when a repository cannot be read.
        """
        name = self.config_name
        found: dict[ModelIdentifier, list[ModelOnDisk]] = {}
        for repository in self._settings.repositories:
            if model is None:
                there = await asyncio.to_thread(self.storage.find_models, repository, name)
            else:
                one = await asyncio.to_thread(self.storage.find_model, repository, model, name)
                there = [one] if one is not None else []
            namespace = repository if self._namespacing else ""
            for item in there:
                found.setdefault(ModelIdentifier(namespace, item.name), []).append(item)
        if model is None:
            for items in found.values():
                for reason in (reason for item in items for reason in item.ignored):
                    log.warning("%s", reason)
            self._found = found
        else:
            for identifier in self.named(model):
                del self._found[identifier]
            self._found.update(found)

    def is_duplicate(self, model: ModelIdentifier) -> bool:
        """Whether it lies in several places, so that nobody can tell which is meant."""
        return len(self._found.get(model, [])) > 1

    def place(self, model: ModelIdentifier) -> ModelOnDisk:
        """The one place of a model. Raises NotFoundError, InvalidArgumentError for several."""
        found = self._found.get(model, [])
        if not found:
            raise NotFoundError(f"no model repository has a model '{model}' any more")
        if len(found) > 1:
            places = ", ".join(item.repository for item in found)
            raise InvalidArgumentError(
                f"failed to poll model '{model}': not unique across all model repositories: it is "
                f"in {places}"
            )
        return found[0]

    def fingerprint(self, model: ModelIdentifier) -> poller.Fingerprint:
        """What the folders of a model look like, wherever it is found. Blocking."""
        return {
            os.path.join(place.directory, path): seen
            for place in self._found.get(model, [])
            for path, seen in self.storage.fingerprint(place).items()
        }

    def as_written(self, model: ModelIdentifier) -> ModelConfig | None:
        """The configuration as the file has it, None without one that can be read. Blocking."""
        try:
            found = self.place(model)
            self.storage.fetch(found)
            return from_file(found.config_path)[0] if found.config_path is not None else None
        except StatusError:
            return None

    def config(
        self, found: ModelOnDisk, request: LoadRequest = _PLAIN
    ) -> tuple[ModelConfig, Source]:
        """The configuration as far as the files, or what overrides them, tell it. Blocking.

        Raises StatusError when there is none, or none that can be understood.
        """
        self.storage.fetch(found)
        if request.config is not None:
            config, source = (
                request.config,
                Source(f"the configuration given to load '{found.name}'"),
            )
        elif found.config_path is not None:
            config, source = from_file(found.config_path)
        elif self._settings.models.strict_config:
            raise InvalidArgumentError(
                f"model '{found.name}' has no config.pbtxt in {found.directory}, and "
                f"auto-completion is off"
            )
        else:
            config, source = ModelConfig(), Source(f"the configuration of '{found.name}'")
        layout.check_config_name(found, config, source)
        if request.versions:
            config = replace(config, version_policy=_exactly(request.versions, found))
        for number in versions.missing(config.version_policy, found.versions):
            log.warning(
                "the version policy of model '%s' names version %d, which is not there",
                found.name,
                number,
            )
        completed = complete_from_files(config, found.name, found.sample_directory, source)
        check_as_written(completed, source)
        return completed, source


def _exactly(numbers: Sequence[int], found: ModelOnDisk) -> ModelVersionPolicy:
    """The policy for versions that were asked for by number: all of them must be there."""
    missing = sorted(set(numbers).difference(found.versions))
    if missing:
        raise InvalidArgumentError(
            f"load parameter 'versions' of model '{found.name}' names version {missing[0]}, and "
            f"the folder holds {list(found.versions)}"
        )
    return ModelVersionPolicy(specific=Specific(versions=list(numbers)))
