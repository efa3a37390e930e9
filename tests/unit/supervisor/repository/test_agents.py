"""Repository agents look at a model's folder before it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.supervisor.config.schema import Agent, ModelConfig, ModelRepositoryAgents
from tritonpy.supervisor.repository.agents import consult, names

DIGEST = hashlib.md5(b"weights").hexdigest()


def config(name: str = "checksum", **parameters: str) -> ModelConfig:
    agent = Agent(name=name, parameters={k.replace("_", ":", 1): v for k, v in parameters.items()})
    return ModelConfig(name="m", model_repository_agents=ModelRepositoryAgents(agents=[agent]))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model").write_bytes(b"weights")
    return str(tmp_path)


def test_a_model_without_agents_is_taken_as_it_is(folder: str) -> None:
    consult(ModelConfig(name="m"), "m", folder)
    assert names(ModelConfig()) == []


@pytest.mark.parametrize("digest", [DIGEST, DIGEST.upper(), f" {DIGEST} "])
def test_files_with_the_right_digest_pass(folder: str, digest: str) -> None:
    made = config(**{"MD5_1/model": digest})
    consult(made, "m", folder)
    assert names(made) == ["checksum"]


def test_a_file_with_another_digest_is_refused(folder: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        consult(config(**{"MD5_1/model": "0" * 32}), "m", folder)
    assert caught.value.message == (
        f"'m': Mismatched MD5 hash for file 1/model, expect: {'0' * 32}, got: {DIGEST}"
    )


def test_a_file_that_is_not_there_is_an_error(folder: str) -> None:
    with pytest.raises(InternalError, match="cannot read file 1/none: No such file"):
        consult(config(**{"MD5_1/none": DIGEST}), "m", folder)


@pytest.mark.parametrize("key", ["SHA_1/model", "MD5_", "MD5_/etc/passwd", "MD5_1/../../x"])
def test_other_parameters_are_refused(folder: str, key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must be 'MD5:<path"):
        consult(config(**{key: DIGEST}), "m", folder)


def test_an_agent_that_is_not_there_is_refused(folder: str) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"repository agent 'x'.*this server has checksum"
    ):
        consult(config("x"), "m", folder)
