"""Limits of workers: from the configuration, or else from the command line."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config.schema import ModelConfig, ModelParameter
from tritonpy.supervisor.config.worker_limits import WorkerLimits, limits_of, worker_limits

DEFAULTS = WorkerLimits(load_secs=60, execution_secs=7, memory_bytes=1 << 30)


def config(**parameters: str) -> ModelConfig:
    return ModelConfig(
        name="m",
        parameters={name: ModelParameter(string_value=value) for name, value in parameters.items()},
    )


@pytest.mark.parametrize(
    ("parameters", "limits"),
    [
        ({}, DEFAULTS),
        ({"execution_timeout_secs": "0.5"}, WorkerLimits(60, 0.5, 1 << 30)),
        ({"memory_limit_byte_size": "1000000"}, WorkerLimits(60, 7, 1_000_000)),
        (
            {
                "load_timeout_secs": "0",
                "execution_timeout_secs": "0",
                "memory_limit_byte_size": "0",
            },
            WorkerLimits(),
        ),
    ],
)
def test_what_a_model_says_goes_before_the_command_line(
    parameters: dict[str, str], limits: WorkerLimits
) -> None:
    assert limits_of(config(**parameters), DEFAULTS) == limits
    assert list(worker_limits(config(**parameters))) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("load_timeout_secs", "late", "a number of seconds"),
        ("execution_timeout_secs", "soon", "a number of seconds"),
        ("execution_timeout_secs", "-1", "a number of seconds"),
        ("execution_timeout_secs", "inf", "a number of seconds"),
        ("execution_timeout_secs", "nan", "a number of seconds"),
        ("execution_timeout_secs", "", "a number of seconds"),
        ("memory_limit_byte_size", "1.5", "a whole number of bytes"),
        ("memory_limit_byte_size", "-1", "a whole number of bytes"),
        ("memory_limit_byte_size", "2 GiB", "a whole number of bytes"),
        ("memory_limit_byte_size", "²", "a whole number of bytes"),
    ],
)
def test_what_is_no_number_is_refused(name: str, value: str, expected: str) -> None:
    (problem,) = worker_limits(config(**{name: value}))

    assert problem.message == f"parameter '{name}' is '{value}', expected {expected}"
    assert problem.path == ("parameters", name)
    with pytest.raises(InvalidArgumentError, match=f"model 'm': parameter '{name}' is"):
        limits_of(config(**{name: value}), DEFAULTS)
