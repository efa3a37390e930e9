"""The parameter `padding`: what may stand in it, and how mistakes are told."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config import parse
from tritonpy.supervisor.config.defaults import normalise
from tritonpy.supervisor.config.locate import Source
from tritonpy.supervisor.config.validate import validate

MODEL = """
    name: "m" backend: "onnxruntime" max_batch_size: 4 default_model_filename: "model.onnx"
    input [ { name: "x" data_type: TYPE_UINT8 dims: [ -1, 2 ] },
            { name: "o" data_type: TYPE_FP32 dims: -1 optional: true },
            { name: "r" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true },
            { name: "s" data_type: TYPE_STRING dims: -1 },
            { name: "b" data_type: TYPE_BOOL dims: -1 } ]
    output { name: "y" data_type: TYPE_FP32 dims: -1 }
"""
RULES: dict[str, Any] = {
    "axes": {"n": {"buckets": [4, 8], "mask": {"name": "k", "data_type": "TYPE_BOOL"}}},
    "inputs": {"x": {"axes": ["n", None], "value": 255}},
    "outputs": {"y": ["n"]},
}


def check(rules: object, model: str = MODEL) -> None:
    text = rules if isinstance(rules, str) else json.dumps(rules)
    value = json.dumps(text)
    text = f'{model} parameters {{ key: "padding" value {{ string_value: {value} }} }}'
    config = parse.from_text(text, "config.pbtxt")
    validate(normalise(config, ()), Source("config.pbtxt", text))


def test_what_is_right_passes() -> None:
    check(RULES)
    check({**RULES, "inputs": {**RULES["inputs"], "s": {"axes": ["n"], "value": "pad"}}})
    check({**RULES, "inputs": {**RULES["inputs"], "b": {"axes": ["n"], "value": True}}})


def axis(rules: Any, **changes: Any) -> None:
    rules["axes"]["n"].update(changes)


def tensor(rules: Any, name: str, *axes: str | None, **more: Any) -> None:
    rules["inputs"][name] = {"axes": list(axes), **more}


MISTAKES: list[tuple[Callable[[Any], object], str]] = [
    (lambda r: r.update(more=1), "the parameter 'padding' is not as expected: Object contains"),
    (lambda r: axis(r, buckets=[]), "the buckets [] of axis 'n' are not positive and ascend"),
    (lambda r: axis(r, buckets=[8, 4]), "the buckets [8, 4] of axis 'n' are not positive"),
    (lambda r: axis(r, buckets=[0, 4]), "the buckets [0, 4] of axis 'n' are not positive"),
    (lambda r: r["axes"].update(z={"buckets": [1]}), "no input has the axis 'z'"),
    (lambda r: tensor(r, "q", "n"), "the model has no input 'q' that could be padded"),
    (lambda r: r["outputs"].update(q=["n"]), "the model has no output 'q' that could be"),
    (lambda r: tensor(r, "s", "z"), "input 's' has the unknown axis 'z'"),
    (lambda r: tensor(r, "x", "n"), "input 'x' has 1 axes and the dims [-1, 2]"),
    (lambda r: tensor(r, "x", "n", "n"), "axis 'n' of input 'x' is a dimension of fixed size"),
    (lambda r: tensor(r, "o", "n"), "input 'o' is both padded and optional"),
    (lambda r: tensor(r, "r", "n"), "input 'r' is both padded and ragged"),
    (lambda r: tensor(r, "x", "n", None, value=256), "filled with 256, which is no TYPE_UINT8"),
    (lambda r: tensor(r, "x", "n", None, value=0.5), "filled with 0.5, which is no TYPE_UINT8"),
    (lambda r: tensor(r, "x", "n", None, value=True), "filled with True, which is no TYPE_UIN"),
    (lambda r: tensor(r, "s", "n", value=1), "filled with 1, which is no TYPE_STRING"),
    (lambda r: tensor(r, "b", "n", value=1), "filled with 1, which is no TYPE_BOOL"),
    (lambda r: axis(r, mask={"name": "x"}), "input 'x' is given twice"),
    (lambda r: axis(r, length={"name": "k"}), "input 'k' is given twice"),
    (
        lambda r: axis(r, length={"name": "l", "data_type": "TYPE_BOOL"}),
        "the generated input 'l' is TYPE_BOOL",
    ),
]


@pytest.mark.parametrize(("edit", "message"), MISTAKES)
def test_a_mistake_is_told(edit: Callable[[Any], object], message: str) -> None:
    rules = copy.deepcopy(RULES)
    edit(rules)
    with pytest.raises(InvalidArgumentError) as raised:
        check(rules)
    assert message in raised.value.message
    assert "in model 'm' (field parameters" in raised.value.message


def test_what_is_no_json_is_told() -> None:
    with pytest.raises(InvalidArgumentError, match="the parameter 'padding' is not as expected"):
        check("{")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (MODEL.replace("onnxruntime", "identity"), "padding does not go with backend 'identity'"),
        (f"{MODEL} sequence_batching {{}}", "padding does not go with sequence_batching"),
    ],
)
def test_padding_is_for_stateless_models_of_tensors(model: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        check(RULES, model)
    assert message in raised.value.message
