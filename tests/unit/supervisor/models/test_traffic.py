"""Who gets a request that names no version: exactly by weight, and always the same for one user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import identity_config, identity_request

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config.schema import ModelParameter
from tritonpy.supervisor.models.traffic import (
    Ready,
    Shadow,
    ShadowRule,
    Traffic,
    TrafficRule,
    configured_rule,
    parse_rule,
)
from tritonpy.supervisor.request import InferRequest


def ready(**versions: int) -> Ready:
    return lambda target: versions.get(f"v{target}", versions.get(target))


BOTH = ready(v1=1, v2=2)


def routed(
    traffic: Traffic, request: InferRequest | None = None, known: Ready = BOTH
) -> int | None:
    request = request or identity_request()
    traffic.route(request, known)
    return request.version


@given(
    weights=st.dictionaries(st.sampled_from("1234"), st.integers(0, 9), min_size=1).filter(
        lambda found: any(found.values())
    ),
    rounds=st.integers(1, 3),
)
def test_over_each_sum_of_the_weights_every_version_gets_exactly_its_weight(
    weights: Mapping[str, int], rounds: int
) -> None:
    traffic = Traffic(TrafficRule(dict(weights)))
    every = ready(v1=1, v2=2, v3=3, v4=4)
    for _ in range(rounds):
        got = Counter(routed(traffic, known=every) for _ in range(sum(weights.values())))
        assert got == Counter({int(name): weight for name, weight in weights.items() if weight})
    assert traffic.statistics()[0] == {n: rounds * weight for n, weight in weights.items()}


def test_turns_are_spread_out() -> None:
    traffic = Traffic(TrafficRule({"1": 3, "2": 1}))
    assert [routed(traffic) for _ in range(8)] == [1, 1, 2, 1, 1, 1, 2, 1]


def test_a_version_that_is_not_ready_leaves_its_share_to_the_others() -> None:
    traffic = Traffic(TrafficRule({"1": 1, "2": 1}))
    assert [routed(traffic, known=ready(v2=2)) for _ in range(3)] == [2, 2, 2]
    assert routed(traffic, known=ready()) is None


def test_labels_name_versions_too() -> None:
    traffic = Traffic(TrafficRule({"canary": 1}))
    assert routed(traffic, known=ready(canary=7)) == 7


def by_user(user: object, **more: object) -> InferRequest:
    request = identity_request()
    request.parameters["user"] = user  # type: ignore[assignment]
    for name, value in more.items():
        setattr(request, name, value)
    return request


def test_equal_values_always_go_to_the_same_version_and_many_are_shared_by_weight() -> None:
    rule = TrafficRule({"1": 3, "2": 1}, "parameter:user")
    first = {user: routed(Traffic(rule), by_user(user)) for user in range(2000)}
    again = Traffic(rule)
    assert {user: routed(again, by_user(user)) for user in range(2000)} == first
    assert 1400 < Counter(first.values())[1] < 1600


def test_when_one_weight_grows_users_move_to_that_version_only() -> None:
    def placed(weight: int) -> dict[int, int | None]:
        traffic = Traffic(TrafficRule({"1": 10, "2": 10, "3": weight}, "parameter:user"))
        every = ready(v1=1, v2=2, v3=3)
        return {user: routed(traffic, by_user(user), every) for user in range(1000)}

    before, after = placed(1), placed(10)
    moved = {user for user in before if before[user] != after[user]}
    assert moved
    assert {after[user] for user in moved} == {3}


@pytest.mark.parametrize("name", ["user", "User", "USER"])
def test_a_forwarded_header_counts_in_whatever_case_it_came(name: str) -> None:
    traffic = Traffic(TrafficRule({"1": 1, "2": 1}, "parameter:uSER"))
    request = identity_request()
    request.parameters[name] = "ann"
    version = routed(traffic, request)
    for _ in range(5):
        request.version = None
        assert routed(traffic, request) == version


def test_ids_stick_and_requests_without_one_are_dealt_out() -> None:
    traffic = Traffic(TrafficRule({"1": 1, "2": 1}, "id"))
    assert len({routed(traffic, identity_request(id="a")) for _ in range(6)}) == 1
    assert {routed(traffic) for _ in range(2)} == {1, 2}


def test_a_sequence_stays_with_its_version_whatever_the_rule_says() -> None:
    traffic = Traffic(TrafficRule({"1": 1, "2": 1}))
    assert len({routed(traffic, by_user(1, correlation_id=9)) for _ in range(6)}) == 1


# --- shadows ----------------------------------------------------------------------------------


def test_a_percentage_of_requests_is_copied_evenly() -> None:
    shadow = Shadow(ShadowRule("2", 25))
    assert [shadow.takes() for _ in range(8)] == [False, False, False, True] * 2
    shadow = Shadow(ShadowRule("2", 40))
    assert [shadow.takes() for _ in range(10)] == [False, False, True, False, True] * 2


def test_copies_that_are_not_answered_hold_up_further_ones() -> None:
    shadow = Shadow(ShadowRule("2", max_pending=2))
    assert [shadow.takes() for _ in range(3)] == [True, True, False]
    shadow.ended(500, failed=False)
    shadow.ended(100, failed=True)
    assert shadow.takes()
    shadow.dropped()
    seen = shadow.statistics()
    assert (seen.pending, seen.success, seen.fail, seen.dropped) == (0, 1, 1, 2)
    assert seen.total_ns == 500
    assert "0 pending" in repr(shadow)


def test_who_answers_gets_no_copy_and_who_is_not_ready_neither() -> None:
    rule = TrafficRule({"1": 1}, shadow=(ShadowRule("1"), ShadowRule("2"), ShadowRule("3")))
    request = identity_request()
    traffic = Traffic(rule)
    traffic.route(request, BOTH)
    assert [version for version, _shadow in request.shadows] == [2]
    assert "'1': 1" in repr(traffic)


# --- rules ------------------------------------------------------------------------------------


def test_a_rule_is_read_from_the_configuration() -> None:
    text = '{"weights": {"1": 9, "canary": 1}, "sticky": "id", "shadow": [{"version": "2"}]}'
    config = identity_config(parameters={"traffic": ModelParameter(string_value=text)})
    assert configured_rule(config) == TrafficRule(
        {"1": 9, "canary": 1}, "id", (ShadowRule("2", 100.0, 32),)
    )
    assert configured_rule(identity_config()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "here is no traffic rule"),
        ("[]", "Expected `object`"),
        ('{"weight": {}}', "unknown field `weight`"),
        ('{"weights": {"1": -1}}', ">= 0"),
        ('{"weights": {"1": 0}}', "all weights are 0"),
        ('{"sticky": "header"}', "must be 'id' or 'parameter:<name>', and is 'header'"),
        ('{"sticky": "parameter:"}', "names no parameter"),
        ('{"shadow": [{"version": "1", "percent": 0}]}', "> 0"),
        ('{"shadow": [{"version": "1", "percent": 101}]}', "<= 100"),
        ('{"shadow": [{"version": "1", "max_pending": 0}]}', ">= 1"),
        ('{"shadow": [{}]}', "missing required field `version`"),
    ],
)
def test_a_wrong_rule_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        parse_rule(text, "what stands here")
