"""Rules about the parameter `padding`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...ipc import padding
from ...ipc.dtypes import from_config, numpy_dtype
from ...ipc.errors import InvalidArgumentError
from .locate import Path
from .problems import Problem, Rule
from .schema import ModelConfig, ModelInput, ModelOutput

_PATH: Path = ("parameters", padding.PARAMETER)
_BACKENDS = ("onnxruntime", "pytorch")
_COUNTS = ("TYPE_INT32", "TYPE_INT64", "TYPE_FP32")


def padded(config: ModelConfig) -> Iterator[Problem]:
    """What is padded are variable dimensions of the model's own tensors, in sizes that ascend."""
    given = config.parameters.get(padding.PARAMETER)
    if given is None:
        return
    try:
        rules = padding.parse(given.string_value)
    except InvalidArgumentError as error:
        yield _problem(error.message, "write JSON as docs/configuration.md shows it")
        return
    if config.backend not in _BACKENDS or config.sequence_batching is not None:
        what = "sequence_batching" if config.sequence_batching else f"backend '{config.backend}'"
        yield _problem(
            f"padding does not go with {what}", f"it is for stateless models of {_BACKENDS}"
        )
    for name, axis in rules.axes.items():
        yield from _axis(name, axis, rules)
    inputs = {tensor.name: tensor for tensor in config.input}
    outputs = {tensor.name: tensor for tensor in config.output}
    for name, rule in rules.inputs.items():
        yield from _tensor("input", name, rule.axes, inputs.get(name), rules)
        if (tensor := inputs.get(name)) is not None:
            yield from _input(tensor, rule)
    for name, axes in rules.outputs.items():
        yield from _tensor("output", name, axes, outputs.get(name), rules)
    yield from _generated(config, rules)


def _axis(name: str, axis: padding.Axis, rules: padding.Padding) -> Iterator[Problem]:
    if not axis.buckets or axis.buckets[0] < 1 or axis.buckets != sorted(set(axis.buckets)):
        yield _problem(
            f"the buckets {axis.buckets} of axis '{name}' are not positive and ascending",
            "write each size once, the smallest first",
        )
    if all(name not in rule.axes for rule in rules.inputs.values()):
        yield _problem(f"no input has the axis '{name}'", "name it among an input's axes")


def _tensor(
    word: str,
    name: str,
    axes: Sequence[str | None],
    tensor: ModelInput | ModelOutput | None,
    rules: padding.Padding,
) -> Iterator[Problem]:
    if tensor is None:
        yield _problem(f"the model has no {word} '{name}' that could be padded", "mend its name")
        return
    unknown = [axis for axis in axes if axis is not None and axis not in rules.axes]
    if unknown:
        yield _problem(f"{word} '{name}' has the unknown axis '{unknown[0]}'", "add it to the axes")
    if len(axes) != len(tensor.dims):
        yield _problem(
            f"{word} '{name}' has {len(axes)} axes and the dims {tensor.dims}",
            "write one axis, or null, for each of its dims; the batch is none of them",
        )
        return
    fixed = [a for a, size in zip(axes, tensor.dims, strict=True) if a is not None and size != -1]
    if fixed:
        yield _problem(
            f"axis '{fixed[0]}' of {word} '{name}' is a dimension of fixed size: {tensor.dims}",
            "write -1 in dims, or null among the axes",
        )


def _input(tensor: ModelInput, rule: padding.PaddedInput) -> Iterator[Problem]:
    for other, there in (("optional", tensor.optional), ("ragged", tensor.allow_ragged_batch)):
        if there:
            yield _problem(
                f"input '{tensor.name}' is both padded and {other}", "choose one of them"
            )
    if rule.value is not None and not _can_hold(tensor.data_type, rule.value):
        yield _problem(
            f"input '{tensor.name}' is filled with {rule.value!r}, which is no {tensor.data_type}",
            "write a value of its datatype",
        )


def _can_hold(data_type: str, value: bool | int | float | str) -> bool:
    if data_type == "TYPE_STRING":
        return isinstance(value, str)
    if data_type == "TYPE_BOOL":
        return isinstance(value, bool)
    dtype = numpy_dtype(from_config(data_type))
    if dtype.kind not in "iu":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    limits = np.iinfo(dtype)
    return type(value) is int and limits.min <= value <= limits.max


def _generated(config: ModelConfig, rules: padding.Padding) -> Iterator[Problem]:
    taken = {tensor.name for tensor in config.input}
    taken.update(name for batch in config.batch_input for name in batch.target_name)
    masks = [axis.mask for axis in rules.axes.values()]
    for made in rules.generated:
        allowed = (*_COUNTS, "TYPE_BOOL") if made in masks else _COUNTS
        if made.name in taken:
            yield _problem(f"input '{made.name}' is given twice", "give each its own name")
        taken.add(made.name)
        if made.data_type not in allowed:
            yield _problem(
                f"the generated input '{made.name}' is {made.data_type}",
                f"write one of {', '.join(allowed)}",
            )


def _problem(message: str, remedy: str) -> Problem:
    return Problem(_PATH, message, remedy)


RULES: tuple[Rule, ...] = (padded,)
