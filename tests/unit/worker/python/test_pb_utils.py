"""Tests for tritonpy.worker.python.pb_utils: the names that models rely on."""

from __future__ import annotations

import pytest

from tritonpy.worker.python import model_directory, pb_utils


@pytest.mark.parametrize("name", pb_utils.__all__)
def test_every_name_that_is_offered_is_there(name: str) -> None:
    assert hasattr(pb_utils, name)


def test_constants_have_triton_s_values() -> None:
    assert pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START == 1
    assert pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END == 2
    assert pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL == 1
    assert pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL == 1
    assert pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE == 2


def test_a_preferred_memory_is_a_kind_and_a_device() -> None:
    preferred = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, 1)

    assert preferred.preferred_memory_type == pb_utils.TRITONSERVER_MEMORY_GPU
    assert preferred.preferred_device_id == 1
    assert pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU).preferred_device_id == 0


def test_the_model_directory_is_known_to_a_model_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_directory, "_directory", "")
    with pytest.raises(
        pb_utils.TritonModelException, match="only available to a model in a worker"
    ):
        pb_utils.get_model_dir()

    model_directory.set_model_dir("/models/m/1")
    assert pb_utils.get_model_dir() == "/models/m/1"
