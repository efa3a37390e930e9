"""Where workers run and take their memory from, as the command line says it."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError, StatusError, UnsupportedError
from tritonpy.supervisor.workers.host_policy import HostPolicy, parse_host_policies


def test_the_settings_of_a_policy_add_up() -> None:
    texts = ["cpu,cpu-cores=0-1,5-5", "cpu,numa-node=1", "gpu_0,numa-node=0"]
    assert parse_host_policies(texts, range(8)) == {
        "cpu": HostPolicy(frozenset({0, 1, 5}), 1),
        "gpu_0": HostPolicy(numa_node=0),
    }


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            "x,colour=red",
            UnsupportedError,
            "Unsupported host policy setting 'colour' is specified, supported settings are "
            "'numa-node', 'cpu-cores'",
        ),
        (
            "x,cpu-cores=0",
            InvalidArgumentError,
            "host policy setting 'cpu-cores' format is "
            "'<lower_cpu_core_id>-<upper_cpu_core_id>'. Got 0",
        ),
        (
            "x,cpu-cores=a-1",
            InvalidArgumentError,
            "Parsing 'cpu-cores' value: Can't parse 'a' to integer",
        ),
        (
            "x,numa-node=-1",
            InvalidArgumentError,
            "Parsing 'numa-node' value: Can't parse '-1' to integer",
        ),
        (
            "x,cpu-cores=1-4",
            InvalidArgumentError,
            "host policy 'x' has cpu-cores=1-4, and must name cores that this server may use, "
            "0,1,2,3; it names core 4, which is not one of them",
        ),
        (
            "x,cpu-cores=3-1",
            InvalidArgumentError,
            "host policy 'x' has cpu-cores=3-1, and must name cores that this server may use, "
            "0,1,2,3; it names none of them",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, kind: type[StatusError], message: str) -> None:
    with pytest.raises(kind) as caught:
        parse_host_policies([text], range(4))
    assert caught.value.message == message
