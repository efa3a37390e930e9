"""Rules about an ensemble and the models of its steps, which are loaded; the words are Triton's.

Whatever may travel along a tensor must fit everything that reads and writes it: the ensemble's own
inputs and outputs, and those of the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...ipc.errors import InvalidArgumentError
from .schema import EnsembleStep, ModelConfig, ModelInput, ModelOutput


class _Seen(NamedTuple):
    """What is known of a tensor from one place; `full` has the batch, where there is one."""

    model: str
    data_type: str
    dims: tuple[int, ...]
    full: tuple[int, ...]


def check_ensemble(config: ModelConfig, models: Sequence[ModelConfig]) -> None:
    """Check a configuration against those of its steps' models, one for each step.

    Raises InvalidArgumentError that names the step's model and the tensor.
    """
    assert config.ensemble_scheduling is not None, "an ensemble has steps"
    tensors: dict[str, _Seen] = {}
    for own in config.input:
        tensors[own.name] = _seen(config, own)
    for wanted in config.output:
        tensors[wanted.name] = _seen(config, wanted)
    for step, model in zip(config.ensemble_scheduling.step, models, strict=True):
        if 0 < model.max_batch_size < config.max_batch_size:
            raise InvalidArgumentError(
                f"ensemble {config.name} allows maximum batch size {config.max_batch_size}, but it "
                f"contains model {step.model_name} which only allows maximum batch size to be "
                f"{model.max_batch_size}"
            )
        _check_inputs(config.name, step, model, tensors)
        _check_outputs(config.name, step, model, tensors)


def _check_inputs(
    ensemble: str, step: EnsembleStep, model: ModelConfig, tensors: dict[str, _Seen]
) -> None:
    known = {tensor.name: tensor for tensor in model.input}
    for name, tensor in step.input_map.items():
        if name not in known:
            raise InvalidArgumentError(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapping to non-existing "
                f"input {name} in model {step.model_name}"
            )
    for name, found in known.items():
        if name in step.input_map:
            _check(ensemble, step.input_map[name], _seen(model, found), tensors)
        elif not found.optional:
            raise InvalidArgumentError(
                f"in ensemble {ensemble}, input {name} in model {model.name} is not mapped to any "
                "ensemble tensors"
            )


def _check_outputs(
    ensemble: str, step: EnsembleStep, model: ModelConfig, tensors: dict[str, _Seen]
) -> None:
    known = {tensor.name: tensor for tensor in model.output}
    for name, tensor in step.output_map.items():
        if name not in known:
            raise InvalidArgumentError(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapped from non-existing "
                f"output {name} in model {step.model_name}"
            )
        _check(ensemble, tensor, _seen(model, known[name]), tensors)


def _check(ensemble: str, tensor: str, seen: _Seen, tensors: dict[str, _Seen]) -> None:
    before = tensors.setdefault(tensor, seen)
    subject = f"in ensemble {ensemble}, ensemble tensor {tensor}: inconsistent"
    if before.data_type != seen.data_type:
        raise InvalidArgumentError(
            f"{subject} data type: {before.data_type} is inferred from model {before.model} while "
            f"{seen.data_type} is inferred from model {seen.model}"
        )
    if not (_fit(before.dims, seen.dims) or _fit(before.full, seen.full)):
        raise InvalidArgumentError(
            f"{subject} shape: {_text(before.full)} is inferred from model {before.model} while "
            f"{_text(seen.full)} is inferred from model {seen.model}"
        )


def _seen(config: ModelConfig, tensor: ModelInput | ModelOutput) -> _Seen:
    dims = tuple(tensor.dims)
    full = (-1, *dims) if config.max_batch_size > 0 else dims
    return _Seen(config.name, tensor.data_type, dims, full)


def _fit(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether some shape is both; -1 is any extent."""
    return len(one) == len(other) and all(
        -1 in (a, b) or a == b for a, b in zip(one, other, strict=True)
    )


def _text(dims: Sequence[int]) -> str:
    return "[" + ",".join(map(str, dims)) + "]"
