"""Whether a changed configuration can be applied to what serves the old one."""

from __future__ import annotations

from msgspec.structs import replace

from . import labels
from .schema import ModelConfig

#: Parameters that say who is asked, not what is answered.
_ROUTING = (labels.PARAMETER, "traffic")


def in_place(old: ModelConfig, new: ModelConfig) -> bool:
    """Whether they differ in nothing but the versions that are served, the labels and the traffic
    of these, and the instances that serve them.
    """
    return _essence(old) == _essence(new)


def applied(old: ModelConfig, new: ModelConfig) -> ModelConfig:
    """What serves `old`, completed as it is, with the differences that `in_place` allows."""
    parameters = {key: value for key, value in old.parameters.items() if key not in _ROUTING}
    parameters |= {key: value for key, value in new.parameters.items() if key in _ROUTING}
    return replace(
        old,
        version_policy=new.version_policy,
        instance_group=new.instance_group,
        parameters=parameters,
    )


def _essence(config: ModelConfig) -> ModelConfig:
    return applied(config, ModelConfig())
