"""Settings of Triton's python backend are taken; unknown ones are told once."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor import command_line, python_settings

_TRITONS = {
    "shm-default-byte-size": "16777216",
    "shm-growth-byte-size": "1048576",
    "shm_message_queue_size": "100",
    "thread-pool-size": "8",
    "stub-timeout-seconds": "45",
    "shm-region-prefix-name": "mine_",
}


def arguments(**settings: str) -> list[str]:
    given = [f"--backend-config=python,{key}={value}" for key, value in settings.items()]
    return ["--model-repository=/r", *given]


def test_triton_s_settings_are_taken_without_a_word() -> None:
    settings = command_line.parse(arguments(**_TRITONS))
    assert settings.workers.backend("python") == _TRITONS
    assert not settings.notices


def test_an_unknown_setting_of_the_python_backend_is_told_once() -> None:
    notices = command_line.parse([*arguments(speed="9"), *arguments(speed="10")[1:]]).notices
    assert len(notices) == 1
    assert "--backend-config=python,speed is not a setting of the python backend" in notices[0]
    assert all(key in notices[0] for key in _TRITONS)


def test_settings_of_other_backends_are_their_own() -> None:
    given = ["--backend-config=mine,speed=9", "--backend-config=speed=9"]
    assert not command_line.parse(["--model-repository=/r", *given]).notices


def test_the_start_of_a_worker_may_take_as_long_as_that_of_a_stub() -> None:
    assert python_settings.start_timeout("python", {}, 60) == 60
    assert python_settings.start_timeout("python", _TRITONS, 60) == 45


@pytest.mark.parametrize("text", ["", "0", "-1", "ten", "1.5", "²"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="python,stub-timeout-seconds: expected a num"):
        python_settings.start_timeout("python", {"stub-timeout-seconds": text}, 60)


def test_a_time_that_is_none_keeps_the_server_from_starting() -> None:
    with pytest.raises(InvalidArgumentError, match="'soon' for --backend-config=python,stub"):
        command_line.parse(arguments(**{"stub-timeout-seconds": "soon"}))
