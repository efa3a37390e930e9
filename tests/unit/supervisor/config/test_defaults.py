"""What is filled in where the author said nothing."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.config import parse
from tritonpy.supervisor.config.defaults import instances, normalise
from tritonpy.supervisor.config.schema import Latest, ModelConfig, ModelVersionPolicy


def normalised(text: str, gpus: tuple[int, ...] = ()) -> ModelConfig:
    config = normalise(parse.from_text(f'name: "m" {text}', "config.pbtxt"), gpus)
    assert normalise(config, gpus) == config, "normalising is not idempotent"
    return config


def named(text: str, gpus: tuple[int, ...] = ()) -> list[tuple[str, str, int | None]]:
    return [(one.name, one.kind, one.gpu) for one in instances(normalised(text, gpus))]


@pytest.mark.parametrize(
    "text", ["", "version_policy { }", "version_policy { latest { } }"], ids=["none", "empty", "0"]
)
def test_the_latest_version_is_served(text: str) -> None:
    assert normalised(text).version_policy == ModelVersionPolicy(latest=Latest(num_versions=1))


def test_a_given_version_policy_stays() -> None:
    assert normalised("version_policy { latest { num_versions: 3 } }").version_policy == (
        ModelVersionPolicy(latest=Latest(num_versions=3))
    )
    policy = normalised("version_policy { all { } }").version_policy
    assert policy is not None
    assert policy.all is not None
    assert policy.latest is None


def test_optimization_is_written_out_with_pinned_memory() -> None:
    policy = normalised("optimization { input_pinned_memory { enable: false } }").optimization
    assert policy is not None
    assert policy.priority == "PRIORITY_DEFAULT"
    assert policy.input_pinned_memory is not None
    assert not policy.input_pinned_memory.enable
    assert policy.output_pinned_memory is not None
    assert policy.output_pinned_memory.enable


def test_the_largest_batch_is_preferred() -> None:
    batching = normalised("max_batch_size: 8 dynamic_batching { }").dynamic_batching
    assert batching is not None
    assert batching.preferred_batch_size == [8]
    given = "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 2, 4 ] }"
    batching = normalised(given).dynamic_batching
    assert batching is not None
    assert batching.preferred_batch_size == [2, 4]


def test_a_model_that_does_not_batch_prefers_no_size() -> None:
    batching = normalised("dynamic_batching { }").dynamic_batching
    assert batching is not None
    assert batching.preferred_batch_size == []


def test_sequences_get_an_idle_time_and_oldest_its_batch() -> None:
    sequence = normalised("max_batch_size: 4 sequence_batching { oldest { } }").sequence_batching
    assert sequence is not None
    assert sequence.max_sequence_idle_microseconds == 1_000_000
    assert sequence.oldest is not None
    assert sequence.oldest.preferred_batch_size == [4]


def test_an_ensemble_gets_neither_instances_nor_optimization() -> None:
    config = normalised('platform: "ensemble" ensemble_scheduling { }', (0,))
    assert config.instance_group == []
    assert config.optimization is None
    assert instances(config) == []


# --- instances ------------------------------------------------------------------------------------


def test_without_a_group_there_is_one_instance_named_after_the_model() -> None:
    assert named("") == [("m_0", "CPU", None)]
    assert named("", (0,)) == [("m_0", "GPU", 0)]


def test_groups_are_numbered_and_their_instances_too() -> None:
    assert named("instance_group { kind: KIND_CPU count: 2 } instance_group { }") == [
        ("m_0_0", "CPU", None),
        ("m_0_1", "CPU", None),
        ("m_1_0", "CPU", None),
    ]
    assert named('instance_group { name: "fast" kind: KIND_MODEL }') == [("fast_0", "MODEL", None)]


def test_a_gpu_group_has_its_count_on_each_gpu() -> None:
    assert named("instance_group { kind: KIND_GPU count: 2 gpus: [ 0, 3 ] }", (0, 1, 3)) == [
        ("m_0_0", "GPU", 0),
        ("m_0_0", "GPU", 3),
        ("m_0_1", "GPU", 0),
        ("m_0_1", "GPU", 3),
    ]
    assert named("instance_group { kind: KIND_GPU }", (1, 2)) == [
        ("m_0_0", "GPU", 1),
        ("m_0_0", "GPU", 2),
    ]


@pytest.mark.parametrize(
    ("gpus", "kind"), [((), "KIND_CPU"), ((0,), "KIND_CPU"), ((0, 1), "KIND_GPU")]
)
def test_an_automatic_group_is_on_the_gpu_if_all_that_it_lists_are_there(
    gpus: tuple[int, ...], kind: str
) -> None:
    (group,) = normalised("instance_group { gpus: [ 0, 1 ] }", gpus).instance_group
    assert group.kind == kind
    assert group.gpus == ([0, 1] if kind == "KIND_GPU" else [])


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorflow", "python"])
def test_every_backend_has_one_instance_on_the_cpu(backend: str) -> None:
    assert len(named(f'backend: "{backend}" instance_group {{ kind: KIND_CPU }}')) == 1


def test_an_instance_has_the_host_policy_of_its_device_unless_given() -> None:
    config = normalised(
        """instance_group [ { kind: KIND_GPU }, { kind: KIND_CPU }, { kind: KIND_MODEL },
                            { kind: KIND_CPU host_policy: "numa1" } ]""",
        (2,),
    )
    assert [one.host_policy for one in instances(config)] == ["gpu_2", "cpu", "model", "numa1"]
    assert config.instance_group[0].host_policy == ""
