"""The environment of a worker."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.workers.environment import worker_environment


def test_a_worker_is_pinned_to_what_it_may_use() -> None:
    made = worker_environment(visible_devices="GPU-a", threads=3, inherited={"PATH": "/bin"})

    assert made["PATH"] == "/bin"
    assert made["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        assert made[name] == "3"
    assert made["PYTHONUNBUFFERED"] == "1"


def test_what_the_operator_set_is_kept_but_not_the_devices() -> None:
    inherited = {
        "OMP_NUM_THREADS": "7",
        "ORT_DISABLE_TELEMETRY": "0",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }

    made = worker_environment(visible_devices="", threads=3, inherited=inherited)

    assert made["OMP_NUM_THREADS"] == "7"
    assert made["ORT_DISABLE_TELEMETRY"] == "0"
    assert made["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("inherited", [{}, {"CUDA_VISIBLE_DEVICES": "1,2"}], ids=["none", "some"])
def test_an_instance_of_all_devices_sees_what_the_server_sees(inherited: dict[str, str]) -> None:
    made = worker_environment(visible_devices=None, threads=1, inherited=inherited)

    assert made.get("CUDA_VISIBLE_DEVICES") == inherited.get("CUDA_VISIBLE_DEVICES")


def test_nobody_reports_home() -> None:
    made = worker_environment(visible_devices="", threads=1, inherited={})

    assert made["ORT_DISABLE_TELEMETRY"] == "1"
    assert made["RAY_USAGE_STATS_ENABLED"] == "0"


def test_the_servers_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_OF_OURS", "yes")

    assert worker_environment(visible_devices="", threads=1)["SOMETHING_OF_OURS"] == "yes"
