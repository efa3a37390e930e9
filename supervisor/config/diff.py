"""Whether a changed configuration can be applied to what serves the old one."""

from __future__ import annotations

from msgspec.structs import replace

from .schema import ModelConfig


def in_place(old: ModelConfig, new: ModelConfig) -> bool:
    """Whether they differ in nothing but the versions that are served and by which instances."""
    return _essence(old) == _essence(new)


def _essence(config: ModelConfig) -> ModelConfig:
    return replace(config, version_policy=None, instance_group=[])
