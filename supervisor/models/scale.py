"""How many instances the groups of a model were given at run time, in place of what its files say.

Pure: what is asked for and what is remembered of it. scaling.py does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from ...ipc.errors import InvalidArgumentError
from ..config.schema import ModelConfig, ModelInstanceGroup

#: More instances of a group than this are a slip of the finger: each is a process of its own.
MOST_INSTANCES = 256


class ScaleRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many instances a group is to have, on each of its GPUs if it is on GPUs.

    `group` may be left out where there is only one.
    """

    count: Annotated[int, Meta(ge=1, le=MOST_INSTANCES)]
    group: str | None = None


def parse_request(document: bytes, where: str) -> ScaleRequest:
    """What a JSON document asks for. `where` begins the sentence about a wrong one:
    InvalidArgumentError.
    """
    try:
        return msgspec.json.decode(document, type=ScaleRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(
            f'{where} must be as {{"group": "<name>", "count": 2}}, with 1 to '
            f"{MOST_INSTANCES} instances: {error}"
        ) from None


@dataclass(frozen=True, slots=True)
class Scale:
    """The counts that were given to a model, by the names of its groups."""

    #: The groups as the configuration had them; when it has others, the counts are void.
    groups: Sequence[ModelInstanceGroup]
    #: What all versions got, and what one version got in its place.
    common: Mapping[str, int] = field(default_factory=dict[str, int])
    own: Mapping[int, Mapping[str, int]] = field(default_factory=dict[int, Mapping[str, int]])

    def fits(self, config: ModelConfig) -> bool:
        """Whether it was made over the very groups that this configuration has."""
        return list(self.groups) == config.instance_group

    def counts(self, version: int) -> dict[str, int]:
        """The counts of a version, also of one that is loaded later."""
        return {**self.common, **self.own.get(version, {})}

    def changed(self, version: int | None, group: str, count: int) -> Scale:
        """With another count for a group, of one version or (None) of all."""
        if version is not None:
            own = {**self.own, version: {**self.own.get(version, {}), group: count}}
            return Scale(self.groups, self.common, own)
        own = {
            number: {name: n for name, n in counts.items() if name != group}
            for number, counts in self.own.items()
        }
        return Scale(self.groups, {**self.common, group: count}, own)


def with_counts(config: ModelConfig, counts: Mapping[str, int]) -> ModelConfig:
    """A normalised configuration with other counts for the groups that are named."""
    if not counts:
        return config
    groups = [
        replace(group, count=counts.get(group.name, group.count)) for group in config.instance_group
    ]
    return replace(config, instance_group=groups)


def meant_group(config: ModelConfig, group: str | None) -> str:
    """The name of the group that is meant by a name or, where it is the only one, by none.

    Raises InvalidArgumentError for a name that no group has, and for none where several could be
    meant.
    """
    names = [each.name for each in config.instance_group]
    there = ", ".join(f"'{name}'" for name in names)
    if group is None:
        if len(names) == 1:
            return names[0]
        raise InvalidArgumentError(
            f"model '{config.name}' has several instance groups: say by 'group' which one is to "
            f"be scaled, of {there}"
        )
    if group not in names:
        raise InvalidArgumentError(
            f"model '{config.name}' has no instance group '{group}': there is {there}"
        )
    return group
