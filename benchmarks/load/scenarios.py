"""What is measured under load, and what the figures are to be."""

from __future__ import annotations

from measurement import MIB, Goal, Scenario

_OURS = ("tritonpy",)
_WITH_MOSEC = ("tritonpy", "triton", "mosec")
_CHEAP = Goal("cpu_ms_per_1000", 0.6)
_MOSEC = {"mosec": "identity"}
_ANY = "identity_any"
_IMAGE = (3 * 224 * 224,)


def _elements(mib: int) -> dict[str, tuple[int]]:
    """The shape of a FP32 tensor of this size."""
    return {"INPUT0": (mib * MIB // 4,)}


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("python-http-16", "identity_python", "http", 16, goals=[_CHEAP]),
        Scenario("python-grpc-16", "identity_python", "grpc", 16, goals=[_CHEAP]),
        Scenario("python-http-1", "identity_python", "http", 1, goals=[Goal("p50_us", 0.6)]),
        Scenario("python-grpc-1", "identity_python", "grpc", 1, goals=[Goal("p50_us", 0.6)]),
        Scenario(
            "python-http-64",
            "identity_python",
            "http",
            64,
            goals=[Goal("infer_per_s", 1.5), Goal("p99_us", 0.7)],
        ),
        Scenario(
            "python-grpc-64",
            "identity_python",
            "grpc",
            64,
            goals=[Goal("infer_per_s", 1.5), Goal("p99_us", 0.7)],
        ),
        *(
            Scenario(
                f"json-{concurrency}",
                "identity_python",
                "http",
                concurrency,
                servers=_WITH_MOSEC,
                models=_MOSEC,
                payload="json",
                own_driver=True,
                goals=[Goal("cpu_ms_per_1000", 0.8), Goal("cpu_ms_per_1000", 0.7, "mosec")],
            )
            for concurrency in (1, 16)
        ),
        Scenario(
            "json-image",
            _ANY,
            "http",
            1,
            shapes={"INPUT0": _IMAGE},
            payload="json",
            own_driver=True,
            goals=[Goal("cpu_ms_per_1000", 0.5)],
        ),
        *(
            Scenario(
                f"{mib}m-{protocol}",
                _ANY,
                protocol,
                2,
                shapes=_elements(mib),
                mib=mib,
                own_driver=protocol == "http",
                echo=True,
                goals=[Goal("mb_per_s", 3.0), Goal("mb_per_s", 0.6, "echo")],
            )
            for mib in (1, 16)
            for protocol in ("http", "grpc")
        ),
        Scenario(
            "shm-16m",
            _ANY,
            "http",
            1,
            shapes=_elements(16),
            payload="shm",
            mib=16,
            goals=[Goal("p50_us", 0.3)],
        ),
        Scenario("shm-unread-1m", "unread", "http", 1, shapes=_elements(1), payload="shm", mib=1),
        Scenario(
            "shm-unread-16m",
            "unread",
            "http",
            1,
            shapes=_elements(16),
            payload="shm",
            mib=16,
            goals=[Goal("p50_us", 0.3)],
        ),
        Scenario(
            "steps-1m",
            "steps",
            "http",
            1,
            shapes=_elements(1),
            mib=1,
            own_driver=True,
            goals=[Goal("p50_us", 0.5)],
        ),
        Scenario("sleep-16", "sleep_16", "http", 64, ideal_per_s=1600.0),
        Scenario(
            "sleep-64",
            "sleep_64",
            "http",
            64,
            ideal_per_s=6400.0,
            goals=[Goal("infer_per_s", 0.9, "ideal")],
        ),
        Scenario("sleep-64-128", "sleep_64", "http", 128, ideal_per_s=6400.0),
        Scenario(
            "cnn-http-32",
            "cnn",
            "http",
            32,
            models={"triton": "cnn_python"},
            in_process=True,
            goals=[Goal("infer_per_s", 1.1), Goal("infer_per_s", 0.9, "alone")],
        ),
        Scenario("identity-http-16", "identity_backend", "http", 16, servers=_OURS),
        Scenario("identity-grpc-16", "identity_backend", "grpc", 16, servers=_OURS),
        Scenario("digits-http-16", "digits", "http", 16, servers=_OURS),
        Scenario("digits-grpc-16", "digits", "grpc", 16, servers=_OURS),
    )
}
