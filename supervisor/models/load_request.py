"""What a load request may say beyond the model's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ...ipc.errors import InternalError, InvalidArgumentError
from ..config.parse import from_json
from ..config.schema import ModelConfig

_FILE = "file:"


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The parameters of a load: each is empty when it was not given.

    `config` replaces the configuration on the disk, `files` the whole folder, and `versions` are
    those to serve instead of what the version policy chooses.
    """

    config: ModelConfig | None = None
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    versions: tuple[int, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether what lies on the disk decides alone."""
        return self.config is None and not self.versions


def read(model: str, parameters: Mapping[str, str | bytes | int | bool]) -> LoadRequest:
    """Understand the parameters of a load.

    Raises InvalidArgumentError for what is wrong with one, InternalError with Triton's words for
    files without a configuration.
    """
    config = None
    files: dict[str, bytes] = {}
    versions: tuple[int, ...] = ()
    for name, value in parameters.items():
        if name.startswith(_FILE) and isinstance(value, bytes):
            files[name.removeprefix(_FILE)] = value
        elif name == "config" and isinstance(value, str):
            config = from_json(value, f"the configuration given to load '{model}'")
        elif name == "versions" and isinstance(value, str):
            versions = _versions(model, value)
        else:
            raise InvalidArgumentError(f"unrecognized load parameter '{name}'.")
    if files and config is None:
        raise InternalError(
            f"failed to load '{model}', failed to poll from model repository: Load parameter "
            "'config' must be specified for model file override"
        )
    return LoadRequest(config, files, versions)


def _versions(model: str, text: str) -> tuple[int, ...]:
    """Numbers between commas, with or without the brackets of a JSON list."""
    refusal = InvalidArgumentError(
        f"load parameter 'versions' of model '{model}' must list version numbers, such as "
        f"'1,3' or '[1, 3]', and is '{text}'"
    )
    try:
        listed: object = json.loads(text if text.strip().startswith("[") else f"[{text}]")
    except (ValueError, RecursionError):
        raise refusal from None
    numbers: list[int] = []
    for item in cast("list[object]", listed) if isinstance(listed, list) else []:
        if type(item) is int and 0 < item < 2**63:
            numbers.append(item)
        else:
            raise refusal
    if not numbers:
        raise refusal
    return tuple(sorted(set(numbers)))
