"""The groups of the RPCs, which requests change something, and the addresses of peers."""

from __future__ import annotations

from typing import Any, cast

import pytest
from unit.supervisor.grpc.planes import FakeControlPlane, FakeDataPlane

from tritonpy.proto import grpc_service_pb2 as pb
from tritonpy.supervisor.access import Access, Policy, Reason, grpc_access
from tritonpy.supervisor.grpc.access import REASON_STATUS, RULES, refusal
from tritonpy.supervisor.grpc.grpcio import GrpcServer
from tritonpy.supervisor.settings import GrpcSettings

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
TRACE = "/inference.GRPCInferenceService/TraceSetting"
LOG = "/inference.GRPCInferenceService/LogSettings"
LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"


class Context:
    """A call as grpcio shows it."""

    def __init__(self, peer: str, *metadata: tuple[str, str | bytes]) -> None:
        self._peer = peer
        self._metadata = metadata

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


def refused(path: str, data: bytes, *metadata: tuple[str, str | bytes], peer: str) -> bool:
    access = Access(Policy(), {}, "protocol")
    found = refusal(access, RULES[path], data, cast("Any", Context(peer, *metadata)))
    return found is not None


def test_every_call_of_the_service_has_a_group() -> None:
    names = {f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods}
    assert names <= set(RULES)
    assert "/grpc.health.v1.Health/Check" in RULES


def test_every_call_that_is_served_has_a_group() -> None:
    data, control = cast("Any", FakeDataPlane()), cast("Any", FakeControlPlane())
    GrpcServer(data, control, GrpcSettings(), Access(Policy(), {}, "protocol"))  # or KeyError


def test_every_reason_has_a_status() -> None:
    assert set(REASON_STATUS) == set(Reason)


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:5000", True),
        ("ipv4:10.0.0.1:5000", False),
        ("ipv6:%5B2001:db8::1%5D:5000", False),
        ("unix:/run/socket", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_a_peer_is_local_by_its_address(peer: str, local: bool) -> None:
    assert refused(LOAD, b"", peer=peer) is not local


def test_binary_metadata_is_no_header() -> None:
    assert not refused(LOAD, b"", ("via-bin", b"\xff"), peer="ipv4:127.0.0.1:1")
    assert refused(LOAD, b"", ("via", "1.1 proxy"), peer="ipv4:127.0.0.1:1")


def settings(kind: Any, **values: str) -> bytes:
    message = kind()
    for name, value in values.items():
        if kind is pb.TraceSettingRequest:
            message.settings[name].value.append(value)
        else:
            message.settings[name].string_param = value
    encoded: bytes = message.SerializeToString()
    return encoded


@pytest.mark.parametrize(
    ("path", "data", "changes"),
    [
        (TRACE, b"", False),
        (TRACE, pb.TraceSettingRequest(model_name="m").SerializeToString(), False),
        (TRACE, settings(pb.TraceSettingRequest, trace_rate="1"), True),
        (TRACE, b"\xff", True),
        (LOG, b"", False),
        (LOG, settings(pb.LogSettingsRequest, log_format="default"), True),
        (LOG, b"\xff", True),
        (LOAD, b"", True),
    ],
)
def test_settings_are_everybodys_to_read_and_not_to_set(
    path: str, data: bytes, changes: bool
) -> None:
    assert refused(path, data, peer="ipv4:10.0.0.1:1") is changes
    assert not refused(path, data, peer="ipv4:127.0.0.1:1")


def test_reads_are_asked_about_only_where_something_is_guarded() -> None:
    context = cast("Any", Context("ipv4:10.0.0.1:1"))
    rule = RULES["/inference.GRPCInferenceService/ModelInfer"]
    assert refusal(grpc_access(Policy(), []), rule, b"", context) is None
    guarded = grpc_access(Policy(), ["inference:k=v"])
    found = refusal(guarded, rule, b"", context)
    assert found is not None
    assert found.reason is Reason.RESTRICTED
