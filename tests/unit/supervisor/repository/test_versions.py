"""Which versions are served."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config.schema import All, Latest, ModelVersionPolicy, Specific
from tritonpy.supervisor.repository.versions import missing, select

ALL = ModelVersionPolicy(all=All())


def latest(count: int) -> ModelVersionPolicy:
    return ModelVersionPolicy(latest=Latest(num_versions=count))


def specific(*versions: int) -> ModelVersionPolicy:
    return ModelVersionPolicy(specific=Specific(versions=list(versions)))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, [10]),
        (ModelVersionPolicy(), [10]),
        (latest(1), [10]),
        (latest(2), [9, 10]),
        (latest(99), [1, 9, 10]),
        (ALL, [1, 9, 10]),
        (specific(9, 1), [1, 9]),
        (specific(9, 9, 7), [9]),
    ],
)
def test_versions_are_selected_by_number(
    policy: ModelVersionPolicy | None, expected: list[int]
) -> None:
    assert select(policy, (10, 1, 9), "m") == expected


@pytest.mark.parametrize(
    ("policy", "available", "reason"),
    [
        (None, (), "it has no version folder such as m/1"),
        (latest(0), (1, 2), "the policy asks for the latest 0 versions"),
        (ALL, (), "it has no version folder such as m/1"),
        (specific(4), (1, 2), "the policy names [4], and the folder holds [1, 2]"),
    ],
)
def test_a_policy_that_leaves_nothing_is_refused(
    policy: ModelVersionPolicy | None, available: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        select(policy, available, "m")
    assert caught.value.message.startswith(
        "at least one version must be available under the version policy of model 'm'"
    )
    assert reason in caught.value.message


def test_versions_that_were_asked_for_and_are_not_there_are_known() -> None:
    assert missing(specific(3, 1, 2), (2,)) == [1, 3]
    assert missing(latest(5), (2,)) == []
    assert missing(None, ()) == []
