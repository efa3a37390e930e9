"""Tests for tritonpy.worker.python.model_config."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonpy.worker.python.model_config import (
    ModelConfig,
    get_input_config_by_name,
    get_output_config_by_name,
    using_decoupled_model_transaction_policy,
)

INPUT = {"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}


def config(**fields: Any) -> ModelConfig:
    return ModelConfig(json.dumps({"name": "m", **fields}))


def test_an_empty_configuration_has_what_models_read_unasked() -> None:
    assert config().as_dict() == {"name": "m", "max_batch_size": 0, "input": [], "output": []}


def test_the_dict_is_the_configuration_itself() -> None:
    completed = config()
    completed.as_dict()["instance_group"] = [{"count": 2}]

    assert completed.as_dict()["instance_group"] == [{"count": 2}]


def test_the_batch_size_may_grow_and_not_shrink() -> None:
    completed = config(max_batch_size=4)
    completed.set_max_batch_size(8)
    assert completed.as_dict()["max_batch_size"] == 8

    with pytest.raises(
        ValueError,
        match=(
            "^configuration specified max_batch_size 8, but in auto-complete-config function for "
            r"model 'm' specified max_batch_size 2$"
        ),
    ):
        completed.set_max_batch_size(2)


def test_dynamic_batching_is_added_where_there_is_no_scheduler() -> None:
    completed = config()
    completed.set_dynamic_batching()

    assert completed.as_dict()["dynamic_batching"] == {}


def test_dynamic_batching_that_is_there_stays_as_it_is() -> None:
    completed = config(dynamic_batching={"preferred_batch_size": [4]})
    completed.set_dynamic_batching()

    assert completed.as_dict()["dynamic_batching"] == {"preferred_batch_size": [4]}


@pytest.mark.parametrize("scheduler", ["sequence_batching", "ensemble_scheduling"])
def test_dynamic_batching_beside_another_scheduler_is_refused(scheduler: str) -> None:
    with pytest.raises(
        ValueError,
        match=(
            f"^Configuration specified scheduling_choice as '{scheduler}', but "
            "auto-complete-config function for model 'm' tries to set scheduling_choice as "
            "'dynamic_batching'$"
        ),
    ):
        config(**{scheduler: {}}).set_dynamic_batching()


def test_inputs_and_outputs_are_added() -> None:
    completed = config()
    completed.add_input({**INPUT, "optional": True})
    completed.add_output({**INPUT, "name": "OUT"})

    assert completed.as_dict()["input"] == [{**INPUT, "optional": True}]
    assert completed.as_dict()["output"] == [{**INPUT, "name": "OUT"}]


def test_what_the_configuration_left_out_is_filled_in() -> None:
    left_out = {"name": "IN", "data_type": "TYPE_INVALID", "dims": [], "format": "FORMAT_NONE"}
    completed = config(input=[left_out], output=[{"name": "OUT"}])
    completed.add_input(INPUT)
    completed.add_output({**INPUT, "name": "OUT"})

    assert completed.as_dict()["input"] == [{**INPUT, "format": "FORMAT_NONE"}]
    assert completed.as_dict()["output"] == [{**INPUT, "name": "OUT"}]


@pytest.mark.parametrize("kind", ["input", "output"])
@pytest.mark.parametrize(
    ("configured", "message"),
    [
        (
            {"data_type": "TYPE_INT8"},
            "unable to load model 'm', configuration expects datatype TYPE_INT8 for {kind} 'IN', "
            "model provides TYPE_FP32",
        ),
        (
            {"dims": [8]},
            "model 'm', tensor 'IN': the model expects dims [4] but the model configuration "
            "specifies dims [8]",
        ),
    ],
)
def test_a_tensor_that_contradicts_the_configuration_is_refused(
    kind: str, configured: dict[str, Any], message: str
) -> None:
    completed = config(**{kind: [{**INPUT, **configured}]})
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        getattr(completed, f"add_{kind}")(INPUT)

    assert str(raised.value) == message.format(kind=kind)


def test_an_optional_that_contradicts_the_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="the model expects optional True but the model config"):
        config(input=[{**INPUT, "optional": False}]).add_input({**INPUT, "optional": True})


@pytest.mark.parametrize("missing", ["name", "data_type", "dims"])
@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_tensor_without_a_property_is_refused(kind: str, missing: str) -> None:
    tensor = {key: value for key, value in INPUT.items() if key != missing}
    whose = kind if missing == "name" else f"{kind} 'IN'"
    with pytest.raises(
        ValueError,
        match=(
            f"^{whose} in auto-complete-config function for model 'm' is missing '{missing}' "
            r"property\.$"
        ),
    ):
        getattr(config(), f"add_{kind}")(tensor)


@pytest.mark.parametrize(
    ("kind", "extra", "allowed"),
    [
        ("input", "reshape", "'name', 'data_type', 'dims' and 'optional'"),
        ("output", "optional", "'name', 'data_type' and 'dims'"),
    ],
)
def test_a_tensor_with_another_property_is_refused(kind: str, extra: str, allowed: str) -> None:
    with pytest.raises(
        ValueError,
        match=(
            f"^{kind} 'IN' in auto-complete-config function for model 'm' contains property other "
            rf"than {allowed}\.$"
        ),
    ):
        getattr(config(), f"add_{kind}")({**INPUT, extra: True})


def test_the_transaction_policy_is_set() -> None:
    completed = config()
    completed.set_model_transaction_policy({"decoupled": True})

    assert using_decoupled_model_transaction_policy(completed.as_dict())


def test_a_transaction_policy_with_another_property_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"for model 'm' contains property other than 'decoupled'\.$"
    ):
        config().set_model_transaction_policy({"coupled": True})


def test_a_transaction_policy_that_contradicts_the_configuration_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=(
            "^trying to change decoupled property in auto-complete-config for model 'm', which is "
            r"already set to 'False'\.$"
        ),
    ):
        config(model_transaction_policy={"decoupled": False}).set_model_transaction_policy(
            {"decoupled": True}
        )


def test_tensors_are_found_by_name() -> None:
    fields = {"input": [INPUT], "output": [{**INPUT, "name": "OUT"}]}

    assert get_input_config_by_name(fields, "IN") == INPUT
    assert get_input_config_by_name(fields, "OUT") is None
    assert get_output_config_by_name(fields, "OUT") == {**INPUT, "name": "OUT"}
    assert get_output_config_by_name({}, "OUT") is None


def test_a_model_without_a_transaction_policy_is_not_decoupled() -> None:
    assert not using_decoupled_model_transaction_policy({})
    assert not using_decoupled_model_transaction_policy({"model_transaction_policy": {}})
