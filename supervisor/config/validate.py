"""Every rule that a configuration must keep, one function each, each with its message.

The configuration has been completed and normalised before; rules look at nothing but it. Rules of
tensors and of schedulers have files of their own; here are those of the model as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from . import validate_padding, validate_schedulers, validate_tensors
from .locate import Source
from .problems import Problem, Rule, refuse
from .schema import ModelConfig
from .worker_limits import worker_limits

#: Characters that Triton refuses in the name of a Python model, as it lands on a command line.
_UNSAFE = frozenset(";|&$`<>()[]{}\\\"'*?~#!")


def validate(config: ModelConfig, source: Source, gpus: Sequence[int] = ()) -> list[str]:
    """Check a normalised configuration; return warnings about what works but is likely not meant.

    `gpus` are the numbers of the GPUs that the model's backend may use. Raises ConfigurationError
    with a line for each of the first problems.
    """
    problems = [problem for rule in RULES for problem in rule(config)]
    problems += _gpus(config, gpus)
    refuse(problems, config, source)
    return [problem.tell(config.name, source) for problem in advice(config)]


def advice(config: ModelConfig) -> list[Problem]:
    """What works in a normalised configuration, and is likely not meant."""
    return [problem for rule in validate_tensors.ADVICE for problem in rule(config)]


def check_as_written(config: ModelConfig, source: Source) -> None:
    """Refuse what no completion can mend, before anything is loaded.

    Raises ConfigurationError as `validate` does.
    """
    problems = [*max_batch_size(config), *response_cache(config), *worker_limits(config)]
    for rule in validate_schedulers.ENSEMBLE_RULES:
        problems += rule(config)
    if config.max_batch_size > 0:  # 0 may be completed from the model
        problems += validate_schedulers.preferred_sizes(config)
    refuse(problems, config, source)


def backend(config: ModelConfig) -> Iterator[Problem]:
    """It is known what runs the model."""
    if not config.backend and config.platform != "ensemble" and not config.ensemble_scheduling:
        yield Problem(
            (), "must specify 'platform' or 'backend'", 'write for instance backend: "onnxruntime"'
        )


def name(config: ModelConfig) -> Iterator[Problem]:
    """A Python model's name holds no character that means something to a shell."""
    found = sorted(_UNSAFE.intersection(config.name))
    is_python = config.backend == "python" or config.runtime.endswith(".py")
    if is_python and found:
        yield Problem(
            ("name",),
            f"the name of a Python model contains {' '.join(found)}, which is not allowed",
            "rename the model's folder",
        )


def max_batch_size(config: ModelConfig) -> Iterator[Problem]:
    """The largest batch is not negative."""
    if config.max_batch_size < 0:
        yield Problem(
            ("max_batch_size",),
            f"'max_batch_size' must be non-negative, and is {config.max_batch_size}",
            "write 0 for a model that does not batch",
        )


def listed_tensors(config: ModelConfig) -> Iterator[Problem]:
    """A PyTorch file does not tell its tensors, so the configuration must."""
    if config.backend != "pytorch":
        return
    for field, there in (("input", bool(config.input)), ("output", bool(config.output))):
        if not there:
            yield Problem(
                (field,),
                f"the configuration lists no '{field}', and a PyTorch model does not tell it",
                f'write {field} [ {{ name: "{field}__0" data_type: TYPE_FP32 dims: [ ... ] }} ]',
            )


def version_policy(config: ModelConfig) -> Iterator[Problem]:
    """Versions that are asked for by number can exist."""
    policy = config.version_policy
    if policy is None or policy.specific is None:
        return
    wrong = [version for version in policy.specific.versions if version < 1]
    if wrong or not policy.specific.versions:
        yield Problem(
            ("version_policy", "specific"),
            f"version_policy names version {wrong[0]}, and versions are positive"
            if wrong
            else "version_policy 'specific' names no version",
            "write for instance versions: [ 1, 3 ]",
        )


def instance_group(config: ModelConfig) -> Iterator[Problem]:
    """Groups that are not on GPUs list none, and profiles are TensorRT's."""
    for index, group in enumerate(config.instance_group):
        if group.kind != "KIND_GPU" and group.gpus:
            yield Problem(
                ("instance_group", index, "gpus"),
                f"instance group '{group.name}' has kind {group.kind} but specifies GPUs "
                f"{group.gpus}",
                "leave `gpus` out, or write kind: KIND_GPU",
            )
        if group.profile and config.backend != "tensorrt":
            yield Problem(
                ("instance_group", index, "profile"),
                f"instance group '{group.name}' has a profile, which only TensorRT models have",
                "leave `profile` out",
            )
        elif wrong := [profile for profile in group.profile if not profile.isdecimal()]:
            yield Problem(
                ("instance_group", index, "profile"),
                f"instance group '{group.name}' has profile '{wrong[0]}'",
                'write the profile\'s number as text, for instance profile: "0"',
            )


def _gpus(config: ModelConfig, gpus: Sequence[int]) -> Iterator[Problem]:
    """Groups on GPUs list GPUs that are there."""
    for index, group in enumerate(config.instance_group):
        if group.kind != "KIND_GPU":
            continue
        missing = [gpu for gpu in group.gpus if gpu not in gpus]
        there = ", ".join(str(gpu) for gpu in gpus) or "none"
        if missing or not group.gpus:
            yield Problem(
                ("instance_group", index, "gpus" if missing else "kind"),
                f"instance group '{group.name}' has kind KIND_GPU and asks for GPU {missing[0]}, "
                f"but the usable GPUs are: {there}"
                if missing
                else f"instance group '{group.name}' has kind KIND_GPU, but no GPU is usable",
                "write kind: KIND_CPU, or KIND_AUTO for a GPU only where there is one",
            )


def response_cache(config: ModelConfig) -> Iterator[Problem]:
    """Only a model that answers each request once and alike can be cached."""
    if config.response_cache is None or not config.response_cache.enable:
        return
    for what, applies in (
        ("sequence batching scheduler", config.sequence_batching is not None),
        ("'decoupled' transaction policy", config.decoupled),
    ):
        if applies:
            yield Problem(
                ("response_cache",),
                f"Response Cache does not currently support model {config.name} with {what}. "
                f"Please disable the response cache.",
                "leave response_cache out",
            )


def model_metrics(config: ModelConfig) -> Iterator[Problem]:
    """A histogram that is configured has a name and buckets that grow."""
    if config.model_metrics is None:
        return
    for index, control in enumerate(config.model_metrics.metric_control):
        identifier, options = control.metric_identifier, control.histogram_options
        buckets = options.buckets if options is not None else []
        if identifier is None or not identifier.family or not buckets:
            yield Problem(
                ("model_metrics", "metric_control", index),
                "a metric control must specify metric_identifier { family } and "
                "histogram_options { buckets }",
                "complete it",
            )
        elif not all(map(math.isfinite, buckets)) or buckets != sorted(set(buckets)):
            yield Problem(
                ("model_metrics", "metric_control", index, "histogram_options"),
                f"the buckets {buckets} of '{identifier.family}' are not finite and ascending",
                "write each bound once, the lowest first",
            )


RULES: tuple[Rule, ...] = (
    backend,
    name,
    max_batch_size,
    listed_tensors,
    version_policy,
    instance_group,
    response_cache,
    model_metrics,
    worker_limits,
    *validate_tensors.RULES,
    *validate_schedulers.RULES,
    *validate_padding.RULES,
)
