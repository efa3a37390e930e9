"""What lies in a model repository: models, their versions and their configuration files.

    <repository>/<model>/config.pbtxt
    <repository>/<model>/configs/<name>.pbtxt      with --model-config-name=<name>
    <repository>/<model>/<version>/...             1, 2, 3: positive, without leading zero

Everything here blocks on the disk; callers on the event loop use a thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ...ipc.errors import InvalidArgumentError
from ..config.locate import Source
from ..config.schema import ModelConfig

#: Folders of a model that are no versions, and need not be explained.
_OTHER_FOLDERS = frozenset(("configs", "warmup", "initial_state", "__pycache__"))

#: Versions travel as int64.
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ModelOnDisk:
    """A model's folder as it was when it was looked at; all paths are absolute.

    `versions` are ascending. `ignored` are sentences about what looked like a version and is none.
    `config_path` is None when the model has no configuration file.
    """

    name: str
    directory: str
    repository: str
    versions: tuple[int, ...]
    ignored: tuple[str, ...]
    config_path: str | None

    def version_directory(self, version: int) -> str:
        """The folder of a version."""
        return os.path.join(self.directory, str(version))

    @property
    def sample_directory(self) -> str | None:
        """The version folder that Triton looks into to guess the backend; None without any."""
        names = sorted(str(version) for version in self.versions)
        return os.path.join(self.directory, names[0]) if names else None


def find_models(repository: str, config_name: str = "") -> list[ModelOnDisk]:
    """All models of a repository by name; hidden folders are no models.

    Raises InvalidArgumentError when the repository cannot be listed.
    """
    root = os.path.abspath(repository)
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise InvalidArgumentError(
            f"failed to read model repository {root}: {error.strerror or error}"
        ) from None
    return [
        look(root, name, config_name)
        for name in names
        if not name.startswith(".") and os.path.isdir(os.path.join(root, name))
    ]


def find_model(repository: str, name: str, config_name: str = "") -> ModelOnDisk | None:
    """One model of a repository, None when it is not there.

    Raises InvalidArgumentError for a name that could lead out of the repository.
    """
    check_name(name)
    root = os.path.abspath(repository)
    if name.startswith(".") or not os.path.isdir(os.path.join(root, name)):
        return None
    return look(root, name, config_name)


def is_name(name: str) -> bool:
    """Whether a model can have this name: that of a folder, which leads nowhere else."""
    return bool(name.strip()) and not any(part in name for part in ("/", "\\", "..", "\0"))


def check_name(name: str) -> None:
    """Raise InvalidArgumentError when a client's model name is no name of a folder."""
    if not is_name(name):
        raise InvalidArgumentError(
            f"invalid model name '{name}': a model name is not blank and holds neither a slash "
            "nor '..'"
        )


def check_config_name(model: ModelOnDisk, config: ModelConfig, source: Source) -> None:
    """Raise InvalidArgumentError when the configuration is another model's."""
    if config.name not in ("", model.name):
        raise InvalidArgumentError(
            f"{source.place(('name',))}: unexpected directory name '{model.name}' for model "
            f"'{config.name}', directory name must equal model name; write name: "
            f'"{model.name}", or leave it out'
        )


def look(repository: str, name: str, config_name: str) -> ModelOnDisk:
    """What the folder of a model that is there holds."""
    directory = os.path.join(repository, name)
    versions: list[int] = []
    ignored: list[str] = []
    try:
        entries = sorted(os.listdir(directory))
    except OSError as error:  # gone meanwhile, or not ours to read
        entries = []
        ignored.append(f"folder {directory} cannot be read: {error.strerror or error}")
    for entry in entries:
        path = os.path.join(directory, entry)
        reason = _why_no_version(entry, os.path.isdir(path))
        if reason is None:
            versions.append(int(entry))
        elif reason:
            ignored.append(f"{path} is not a version of model '{name}' and is ignored: {reason}")
    return ModelOnDisk(
        name=name,
        directory=directory,
        repository=repository,
        versions=tuple(sorted(versions)),
        ignored=tuple(ignored),
        config_path=_config_path(directory, config_name),
    )


def from_paths(
    repository: str, directory: str, paths: Sequence[str], config_name: str
) -> ModelOnDisk:
    """What a model holds whose files are known by their paths in its folder, and are not here."""
    name = os.path.basename(directory)
    versions: list[int] = []
    ignored: list[str] = []
    for entry in sorted({path.partition("/")[0] for path in paths}):
        reason = _why_no_version(entry, entry not in paths)
        if reason is None:
            versions.append(int(entry))
        elif reason:
            ignored.append(
                f"{repository}/{name}/{entry} is not a version of model '{name}' and is ignored: "
                f"{reason}"
            )
    config = f"configs/{config_name}.pbtxt"
    chosen = config if config_name and config in paths else "config.pbtxt"
    return ModelOnDisk(
        name=name,
        directory=directory,
        repository=repository,
        versions=tuple(sorted(versions)),
        ignored=tuple(ignored),
        config_path=os.path.join(directory, chosen) if chosen in paths else None,
    )


def _why_no_version(entry: str, is_folder: bool) -> str | None:
    """None for a version's folder, a reason for what may be mistaken for one, "" for the rest."""
    numeric = entry.isascii() and entry.removeprefix("-").isdigit()
    if not is_folder:
        return "a version is a folder, and this is a file" if numeric else ""
    if entry in _OTHER_FOLDERS or entry.startswith("."):
        return ""
    if not numeric:  # a helper package says nothing, `v1` and `1.0` are mistakes
        looks_like_one = any(character.isdigit() for character in entry)
        return "the name of a version's folder is a positive number" if looks_like_one else ""
    if entry.startswith("0") and entry.strip("0"):
        return f"a version has no leading zero; rename it to {entry.lstrip('0')}"
    if int(entry) < 1:
        return "versions start at 1"
    return None if int(entry) <= _MAX_VERSION else "the number is too large"


def _config_path(directory: str, config_name: str) -> str | None:
    candidates = [os.path.join(directory, "config.pbtxt")]
    if config_name:
        candidates.insert(0, os.path.join(directory, "configs", f"{config_name}.pbtxt"))
    return next((path for path in candidates if os.path.isfile(path)), None)
