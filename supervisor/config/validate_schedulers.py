"""Rules about dynamic batching, sequences and ensembles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from .locate import MapKey, Path
from .problems import Problem, Rule
from .schema import Control, ModelConfig, ModelQueuePolicy, State

_CORRELATION_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def preferred_sizes(config: ModelConfig) -> Iterator[Problem]:
    """A preferred batch is neither empty nor larger than the largest."""
    if (dynamic := config.dynamic_batching) is not None:
        yield from _sizes(config, ("dynamic_batching",), dynamic.preferred_batch_size)
    sequence = config.sequence_batching
    if sequence is not None and sequence.oldest is not None:
        sizes = sequence.oldest.preferred_batch_size
        yield from _sizes(config, ("sequence_batching", "oldest"), sizes)


def _sizes(config: ModelConfig, block: Path, sizes: Sequence[int]) -> Iterator[Problem]:
    for size in sizes:
        if not 0 < size <= config.max_batch_size:
            yield Problem(
                (*block, "preferred_batch_size"),
                f"preferred batch size {size} is not between 1 and max_batch_size, which is "
                f"{config.max_batch_size}",
                "change it, or set max_batch_size",
            )


def priorities(config: ModelConfig) -> Iterator[Problem]:
    """With priority levels there is a default one, and policies are for levels that exist."""
    dynamic = config.dynamic_batching
    if dynamic is None:
        return
    levels = dynamic.priority_levels
    if levels and not 1 <= dynamic.default_priority_level <= levels:
        yield Problem(
            ("dynamic_batching", "default_priority_level"),
            f"default priority level {dynamic.default_priority_level} is not between 1 and "
            f"priority_levels, which is {levels}",
            "set default_priority_level to the level of requests that name none",
        )
    for level in sorted(dynamic.priority_queue_policy):
        if not 1 <= level <= levels:
            yield Problem(
                ("dynamic_batching", "priority_queue_policy", MapKey(level)),
                f"priority_queue_policy is given for level {level}, and levels go from 1 to "
                f"priority_levels, which is {levels}",
                "raise priority_levels or remove that policy",
            )


def ordering(config: ModelConfig) -> Iterator[Problem]:
    """Order cannot be kept while requests overtake each other."""
    dynamic = config.dynamic_batching
    if dynamic is None or not dynamic.preserve_ordering:
        return
    path: Path = ("dynamic_batching", "preserve_ordering")
    if dynamic.priority_levels > 1:
        yield Problem(
            path,
            f"preserve_ordering with {dynamic.priority_levels} priority levels: a higher level "
            "overtakes a lower one",
            "leave one of the two out",
        )
    policies: list[ModelQueuePolicy] = list(dynamic.priority_queue_policy.values())
    if dynamic.default_queue_policy is not None:
        policies.append(dynamic.default_queue_policy)
    if any(
        policy.timeout_action == "DELAY" and policy.default_timeout_microseconds
        for policy in policies
    ):
        yield Problem(
            path,
            "preserve_ordering with timeout_action DELAY: delayed requests are overtaken",
            "leave one of the two out, or reject on timeout",
        )


def controls(config: ModelConfig) -> Iterator[Problem]:
    """Each control of a sequence is given once, by a named input, and says what it sends."""
    sequence = config.sequence_batching
    if sequence is None:
        return
    seen: set[str] = set()
    for index, entry in enumerate(sequence.control_input):
        path: Path = ("sequence_batching", "control_input", index)
        if not entry.name:
            yield Problem(path, "a control input must specify 'name'", "name the model's tensor")
        for number, control in enumerate(entry.control):
            where = (*path, "control", number)
            if control.kind in seen:
                yield Problem(where, f"{control.kind} is given twice", "keep one of them")
            seen.add(control.kind)
            yield from _control(control, entry.name, where)


def _control(control: Control, name: str, path: Path) -> Iterator[Problem]:
    pairs = (control.int32_false_true, control.fp32_false_true, control.bool_false_true)
    given = [pair for pair in pairs if pair]
    if control.kind == "CONTROL_SEQUENCE_CORRID":
        if control.data_type not in _CORRELATION_TYPES or given:
            yield Problem(
                path,
                f"control '{name}' carries the correlation id, which is one of "
                f"{', '.join(_CORRELATION_TYPES)} and not {control.data_type}",
                "set data_type to one of them, and no false/true values",
            )
    elif len(given) != 1 or len(given[0]) != 2 or not all(map(math.isfinite, given[0])):
        yield Problem(
            path,
            f"control '{name}' ({control.kind}) must give exactly one of int32_false_true, "
            "fp32_false_true and bool_false_true, with two values",
            "write for instance int32_false_true: [ 0, 1 ]",
        )


def slots(config: ModelConfig) -> Iterator[Problem]:
    """The direct strategy waits for a share of its slots."""
    sequence = config.sequence_batching
    if sequence is None or sequence.direct is None:
        return
    share = sequence.direct.minimum_slot_utilization
    if not 0.0 <= share <= 1.0:
        yield Problem(
            ("sequence_batching", "direct", "minimum_slot_utilization"),
            f"minimum_slot_utilization {share} is not between 0 and 1",
            "write the share of slots that must be filled, for instance 0.5",
        )


def states(config: ModelConfig) -> Iterator[Problem]:
    """A state has both of its names, a data type and dims."""
    sequence = config.sequence_batching
    if sequence is None:
        return
    for index, state in enumerate(sequence.state):
        missing = [
            field
            for field, there in (
                ("input_name", bool(state.input_name)),
                ("output_name", bool(state.output_name)),
                ("data_type", state.data_type != "TYPE_INVALID"),
                ("dims", bool(state.dims)),
            )
            if not there
        ]
        if missing:
            yield Problem(
                ("sequence_batching", "state", index),
                f"a sequence's state must specify {' and '.join(repr(f) for f in missing)}",
                "complete the state",
            )
        elif any(extent < 1 and extent != -1 for extent in state.dims):
            yield Problem(
                ("sequence_batching", "state", index, "dims"),
                f"the state '{state.input_name}' has dims {state.dims}",
                "write integers >= 1, or -1 for a dimension of variable size",
            )
        yield from _initial_state(state, index)


def _initial_state(state: State, index: int) -> Iterator[Problem]:
    """At most one initial state, which the state can be."""
    about = f"the initial state of '{state.input_name}'"
    path: Path = ("sequence_batching", "state", index, "initial_state")
    if len(state.initial_state) > 1:
        yield Problem(path, f"{about} is given more than once", "keep one of them")
    for initial in state.initial_state[:1]:
        if not initial.name:
            yield Problem(
                path,
                f"Field 'name' must be set when using initial_state for state input "
                f"'{state.input_name}'",
                "name the initial state",
            )
        if initial.data_type != state.data_type:
            yield Problem(
                path,
                f"{about} is {initial.data_type}, and the state {state.data_type}",
                "write the data_type of the state",
            )
        if not initial.zero_data and not initial.data_file:
            yield Problem(path, f"{about} has no data", "write zero_data: true, or a data_file")
        if any(extent < 1 for extent in initial.dims):
            yield Problem(
                path,
                f"'initial_state' field for state input name '{state.input_name}' contains "
                "variable dimensions",
                "write how long it is at first",
            )
        elif len(initial.dims) != len(state.dims) or any(
            want not in (-1, got) for want, got in zip(state.dims, initial.dims, strict=True)
        ):
            yield Problem(
                path,
                f"{about} has dims {initial.dims}, which do not fit the state's {state.dims}",
                "let them agree but for variable dimensions",
            )


def ensemble_block(config: ModelConfig) -> Iterator[Problem]:
    """An ensemble has the platform `ensemble`, steps, and nothing that runs by itself."""
    ensemble = config.ensemble_scheduling
    if ensemble is None:
        if config.platform == "ensemble":
            yield Problem(
                ("platform",),
                "platform 'ensemble' without ensemble_scheduling",
                "write ensemble_scheduling { step [ ... ] }",
            )
        return
    if config.platform != "ensemble":
        yield Problem(
            ("platform",),
            f"ensemble_scheduling with platform '{config.platform}'",
            'write platform: "ensemble"',
        )
    for field, there in (
        ("backend", bool(config.backend)),
        ("instance_group", bool(config.instance_group)),
        ("optimization", config.optimization is not None),
        ("model_warmup", bool(config.model_warmup)),
    ):
        if there:
            yield Problem(
                (field,),
                f"an ensemble has no '{field}', as only its steps run",
                "leave it out, or move it to the models of the steps",
            )
    if not ensemble.step:
        yield Problem(
            ("ensemble_scheduling",), "an ensemble must specify at least one 'step'", "add one"
        )


def ensemble_steps(config: ModelConfig) -> Iterator[Problem]:
    """Each step names its model and maps tensors both ways."""
    if config.ensemble_scheduling is None:
        return
    for index, step in enumerate(config.ensemble_scheduling.step):
        for field, there in (
            ("model_name", bool(step.model_name)),
            ("input_map", bool(step.input_map)),
            ("output_map", bool(step.output_map)),
        ):
            if not there:
                yield Problem(
                    ("ensemble_scheduling", "step", index),
                    f"step {index} of the ensemble must specify '{field}'",
                    f"write {field} of the step",
                )


def ensemble_flow(config: ModelConfig) -> Iterator[Problem]:
    """Every tensor of an ensemble comes from exactly one place and goes somewhere."""
    if config.ensemble_scheduling is None:
        return
    steps = config.ensemble_scheduling.step
    inputs = [tensor.name for tensor in config.input]
    outputs = [tensor.name for tensor in config.output]
    produced = Counter(inputs)
    used = set(outputs)
    for step in steps:
        produced.update(step.output_map.values())
        used.update(step.input_map.values())
    block: Path = ("ensemble_scheduling",)
    for name in sorted(name for name, times in produced.items() if times > 1 and name):
        yield Problem(
            block,
            f"ensemble tensor '{name}' is written more than once",
            "map each output to a tensor of its own",
        )
    for index, name in enumerate(inputs):
        if name and name not in used:
            yield Problem(
                ("input", index),
                f"ensemble input '{name}' is used by no step",
                "map it to an input of a step, or remove it",
            )
    for index, name in enumerate(outputs):
        if name and name not in produced:
            yield Problem(
                ("output", index),
                f"ensemble output '{name}' is written by no step",
                "map an output of a step to it, or remove it",
            )
    yield from _intermediate(config, set(produced), used)


def _intermediate(config: ModelConfig, produced: set[str], used: set[str]) -> Iterator[Problem]:
    assert config.ensemble_scheduling is not None
    for index, step in enumerate(config.ensemble_scheduling.step):
        path: Path = ("ensemble_scheduling", "step", index)
        for tensor, name in step.input_map.items():
            if name not in produced:
                yield Problem(
                    (*path, "input_map", MapKey(tensor)),
                    f"input '{tensor}' of step {index} ('{step.model_name}') reads ensemble tensor "
                    f"'{name}', which nothing writes",
                    "map an output of another step, or an input of the ensemble, to it",
                )
        for tensor, name in step.output_map.items():
            if name not in used:
                yield Problem(
                    (*path, "output_map", MapKey(tensor)),
                    f"ensemble tensor '{name}' is unused in ensemble '{config.name}'",
                    "use it in another step or as an output, or leave it out of output_map",
                )


def ensemble_circles(config: ModelConfig) -> Iterator[Problem]:
    """No step waits, be it through others, for what it writes itself."""
    if config.ensemble_scheduling is None:
        return
    steps = config.ensemble_scheduling.step
    written = {name for step in steps for name in step.output_map.values()}
    known = {tensor.name for tensor in config.input}
    left = list(enumerate(steps))
    while True:
        waiting = [
            (index, step)
            for index, step in left
            if any(name in written and name not in known for name in step.input_map.values())
        ]
        if len(waiting) == len(left):
            break
        known.update(n for each in left if each not in waiting for n in each[1].output_map.values())
        left = waiting
    for index, step in waiting:
        yield Problem(
            ("ensemble_scheduling", "step", index),
            f"step {index} ('{step.model_name}') never runs: it waits for a tensor that is made "
            "from its own outputs",
            "break the circle",
        )


#: What can be said of an ensemble without the models of its steps.
ENSEMBLE_RULES: tuple[Rule, ...] = (
    ensemble_block,
    ensemble_steps,
    ensemble_flow,
    ensemble_circles,
)

RULES: tuple[Rule, ...] = (
    preferred_sizes,
    priorities,
    ordering,
    controls,
    slots,
    states,
    *ENSEMBLE_RULES,
)
