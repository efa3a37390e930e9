"""Whether a changed configuration needs a reload."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tritonpy.supervisor.config.diff import applied, in_place
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
        ({"parameters": {"version_labels": ModelParameter(string_value="stable=1")}}, True),
        ({"max_batch_size": 8}, False),
        ({"parameters": {"a": ModelParameter(string_value="b")}}, False),
        ({"instance_group": [ModelInstanceGroup(count=3)], "max_batch_size": 8}, False),
    ],
)
def test_versions_and_instances_may_change_in_place(changes: dict[str, object], fits: bool) -> None:
    assert in_place(OLD, replace(OLD, **changes)) is fits
    if fits:
        assert applied(OLD, replace(OLD, **changes)) == replace(OLD, **changes)


def test_what_a_model_completed_stays_when_labels_go() -> None:
    label, other = ModelParameter(string_value="stable=1"), ModelParameter(string_value="x")
    old = replace(OLD, parameters={"version_labels": label, "other": other})
    assert applied(old, ModelConfig()) == replace(OLD, parameters={"other": other})
