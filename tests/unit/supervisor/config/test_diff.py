"""Whether a changed configuration needs a reload."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tritonpy.supervisor.config.diff import in_place
from tritonpy.supervisor.config.schema import (
    All,
    ModelConfig,
    ModelInstanceGroup,
    ModelParameter,
    ModelVersionPolicy,
)

OLD = ModelConfig(name="m", backend="identity", max_batch_size=4)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"instance_group": [ModelInstanceGroup(count=3)]}, True),
        ({"version_policy": ModelVersionPolicy(all=All())}, True),
        ({"max_batch_size": 8}, False),
        ({"parameters": {"a": ModelParameter(string_value="b")}}, False),
        ({"instance_group": [ModelInstanceGroup(count=3)], "max_batch_size": 8}, False),
    ],
)
def test_versions_and_instances_may_change_in_place(changes: dict[str, object], fits: bool) -> None:
    assert in_place(OLD, replace(OLD, **changes)) is fits
