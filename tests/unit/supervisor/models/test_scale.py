"""What is asked for and remembered of counts that are given at run time."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config.defaults import normalise
from tritonpy.supervisor.config.schema import ModelConfig, ModelInstanceGroup
from tritonpy.supervisor.models.scale import (
    MOST_INSTANCES,
    Scale,
    ScaleRequest,
    meant_group,
    parse_request,
    with_counts,
)

TWO = [ModelInstanceGroup(name="a", count=2), ModelInstanceGroup(name="b")]


@pytest.mark.parametrize(
    ("document", "request_"),
    [
        (b'{"count": 1}', ScaleRequest(1)),
        (b'{"count": 2, "group": null}', ScaleRequest(2)),
        (b'{"group": "a", "count": 256}', ScaleRequest(MOST_INSTANCES, "a")),
    ],
)
def test_a_request_is_a_count_and_perhaps_a_group(document: bytes, request_: ScaleRequest) -> None:
    assert parse_request(document, "it") == request_


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "truncated"),
        (b"\xff", "malformed|invalid"),
        (b"{}", "missing required field `count`"),
        (b'{"count": 0}', ">= 1"),
        (b'{"count": 257}', "<= 256"),
        (b'{"count": 1.5}', "Expected `int`"),
        (b'{"count": true}', "Expected `int`"),
        (b'{"count": "2"}', "Expected `int`"),
        (b'{"count": 2, "size": 3}', "unknown field `size`"),
    ],
)
def test_a_wrong_request_is_told_what_it_should_be(document: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        parse_request(document, "the body")
    assert caught.value.message.startswith('the body must be as {"group": "<name>", "count": 2}')


def test_a_version_s_own_count_goes_before_the_common_one_until_all_get_a_new_one() -> None:
    scale = Scale(TWO).changed(None, "a", 3).changed(2, "a", 5).changed(2, "b", 7)
    assert scale.counts(1) == {"a": 3}
    assert scale.counts(2) == {"a": 5, "b": 7}

    scale = scale.changed(None, "a", 4)

    assert scale.counts(1) == {"a": 4}
    assert scale.counts(2) == {"a": 4, "b": 7}


def test_counts_hold_for_the_groups_that_they_were_made_over() -> None:
    scale = Scale(TWO)
    assert scale.fits(ModelConfig(instance_group=list(TWO), max_batch_size=8))
    assert not scale.fits(ModelConfig(instance_group=TWO[:1]))
    assert not scale.fits(ModelConfig())


def test_counts_replace_those_of_a_configuration_and_nothing_else() -> None:
    config = normalise(ModelConfig(name="m", instance_group=TWO), ())
    changed = with_counts(config, {"b": 9, "gone": 1})
    assert [(group.name, group.count) for group in changed.instance_group] == [("a", 2), ("b", 9)]
    assert with_counts(changed, {"b": 1}) == config
    assert with_counts(config, {}) is config


def test_a_group_is_meant_by_its_name_or_by_being_the_only_one() -> None:
    one = normalise(ModelConfig(name="m"), ())
    assert meant_group(one, None) == meant_group(one, "m") == "m"
    with pytest.raises(InvalidArgumentError, match="'m' has no instance group 'a': there is 'm'"):
        meant_group(one, "a")
    several = ModelConfig(name="m", instance_group=TWO)
    assert meant_group(several, "b") == "b"
    with pytest.raises(InvalidArgumentError, match="which one is to be scaled, of 'a', 'b'"):
        meant_group(several, None)
