"""Fill in what the author of a configuration left out, so that nobody else has to ask.

One default differs from Triton's on purpose: an instance group on the CPU has one instance for
every backend (Triton: two for ONNX Runtime and TensorFlow), because here each is a process with
its own copy of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from .artefacts import complete_from_files
from .optimization import ModelOptimizationPolicy, PinnedMemoryBuffer
from .schema import (
    Latest,
    ModelConfig,
    ModelDynamicBatching,
    ModelInstanceGroup,
    ModelSequenceBatching,
    ModelVersionPolicy,
)

__all__ = ["Instance", "complete_from_files", "instances", "normalise"]

#: Microseconds after which a sequence that sends nothing loses its slot.
SEQUENCE_IDLE_US = 1_000_000


class Instance(NamedTuple):
    """One instance of a model: `kind` is CPU, GPU or MODEL; `gpu` its number for kind GPU only.

    As in Triton, the instances that a group puts on several GPUs share a name: `name` and `gpu`
    together are unique.
    """

    name: str
    kind: str
    gpu: int | None
    group: ModelInstanceGroup

    @property
    def host_policy(self) -> str:
        """The name of the host policy that applies: the group's, or the device's own."""
        device = f"gpu_{self.gpu}" if self.gpu is not None else self.kind.lower()
        return self.group.host_policy or device


def normalise(config: ModelConfig, gpus: Sequence[int]) -> ModelConfig:
    """The configuration with every default of Triton's written out.

    `gpus` are the numbers of the GPUs that the model's backend may use, empty for a backend or a
    machine without. The result of normalising it again is the same.
    """
    config = replace(config, version_policy=_version_policy(config.version_policy))
    if config.dynamic_batching is not None:
        batching = _dynamic(config.dynamic_batching, config.max_batch_size)
        config = replace(config, dynamic_batching=batching)
    if config.sequence_batching is not None:
        sequence = _sequence(config.sequence_batching, config.max_batch_size)
        config = replace(config, sequence_batching=sequence)
    if config.ensemble_scheduling is not None:  # runs nothing itself: neither may be given
        return config
    return replace(
        config,
        optimization=_optimization(config.optimization),
        instance_group=_instance_groups(config, gpus),
    )


def instances(config: ModelConfig) -> list[Instance]:
    """The instances that a normalised configuration asks for, in the order they are started."""
    result: list[Instance] = []
    for group in config.instance_group:
        kind = group.kind.removeprefix("KIND_")
        devices: Sequence[int | None] = group.gpus if kind == "GPU" else [None]
        for number in range(group.count):
            name = f"{group.name}_{number}"
            result += [Instance(name, kind, device, group) for device in devices]
    return result


def _version_policy(policy: ModelVersionPolicy | None) -> ModelVersionPolicy:
    if policy is None or (policy.latest, policy.all, policy.specific) == (None, None, None):
        return ModelVersionPolicy(latest=Latest(num_versions=1))
    if policy.latest is not None and policy.latest.num_versions == 0:
        return ModelVersionPolicy(latest=Latest(num_versions=1))
    return policy


def _dynamic(batching: ModelDynamicBatching, max_batch_size: int) -> ModelDynamicBatching:
    if batching.preferred_batch_size or max_batch_size <= 0:
        return batching
    return replace(batching, preferred_batch_size=[max_batch_size])


def _sequence(batching: ModelSequenceBatching, max_batch_size: int) -> ModelSequenceBatching:
    if batching.max_sequence_idle_microseconds == 0:
        batching = replace(batching, max_sequence_idle_microseconds=SEQUENCE_IDLE_US)
    oldest = batching.oldest
    if oldest is not None and not oldest.preferred_batch_size and max_batch_size > 0:
        oldest = replace(oldest, preferred_batch_size=[max_batch_size])
        batching = replace(batching, oldest=oldest)
    return batching


def _optimization(policy: ModelOptimizationPolicy | None) -> ModelOptimizationPolicy:
    policy = policy or ModelOptimizationPolicy()
    pinned = PinnedMemoryBuffer(enable=True)
    return replace(
        policy,
        input_pinned_memory=policy.input_pinned_memory or pinned,
        output_pinned_memory=policy.output_pinned_memory or pinned,
    )


def _instance_groups(config: ModelConfig, gpus: Sequence[int]) -> list[ModelInstanceGroup]:
    groups = config.instance_group or [ModelInstanceGroup(name=config.name)]
    return [
        _instance_group(group, group.name or f"{config.name}_{index}", gpus)
        for index, group in enumerate(groups)
    ]


def _instance_group(
    group: ModelInstanceGroup, name: str, gpus: Sequence[int]
) -> ModelInstanceGroup:
    kind, devices = group.kind, group.gpus
    if kind == "KIND_AUTO" and gpus and set(devices) <= set(gpus):
        kind = "KIND_GPU"
    elif kind == "KIND_AUTO":
        kind, devices = "KIND_CPU", []
    if kind == "KIND_GPU" and not devices:
        devices = list(gpus)
    return replace(group, name=name, kind=kind, count=max(1, group.count), gpus=devices)
