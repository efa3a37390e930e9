"""Who calls over gRPC, and which group of calls each RPC belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from google.protobuf.message import DecodeError

from ...proto import grpc_service_pb2 as pb
from ..access import Access, Peer, Reason, Refusal
from ..restricted import Category
from .reflection import REFLECTION_PATHS
from .service import STREAM_PATH
from .status import Status

_INFERENCE = STREAM_PATH.removesuffix("ModelStreamInfer")

REASON_STATUS = {
    Reason.RESTRICTED: Status.UNAVAILABLE,  # Triton's
    Reason.UNAUTHENTICATED: Status.UNAUTHENTICATED,
    Reason.FORBIDDEN: Status.PERMISSION_DENIED,
    Reason.DISABLED: Status.UNIMPLEMENTED,
}


class Call(Protocol):
    """A call as its transport shows it; the names are grpcio's."""

    def peer(self) -> str:
        """Who calls: `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`."""
        ...

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """What came with the call."""
        ...


class Rule(NamedTuple):
    """The group of an RPC, and whether its request, as encoded bytes, would change something."""

    category: Category
    changes: Callable[[bytes], bool] | None = None


def _always(_: bytes) -> bool:
    return True


def _sets_trace(data: bytes) -> bool:
    try:
        return bool(pb.TraceSettingRequest.FromString(data).settings)
    except DecodeError:
        return True


def _sets_logging(data: bytes) -> bool:
    try:
        return bool(pb.LogSettingsRequest.FromString(data).settings)
    except DecodeError:
        return True


_RULES = {
    "ServerLive": Rule("health"),
    "ServerReady": Rule("health"),
    "ModelReady": Rule("health"),
    "ServerMetadata": Rule("metadata"),
    "ModelMetadata": Rule("metadata"),
    "ModelInfer": Rule("inference"),
    "ModelStreamInfer": Rule("inference"),
    "ModelConfig": Rule("model-config"),
    "ModelStatistics": Rule("statistics"),
    "RepositoryIndex": Rule("model-repository"),
    "RepositoryModelLoad": Rule("model-repository", _always),
    "RepositoryModelUnload": Rule("model-repository", _always),
    "SystemSharedMemoryStatus": Rule("shared-memory"),
    "SystemSharedMemoryRegister": Rule("shared-memory", _always),
    "SystemSharedMemoryUnregister": Rule("shared-memory", _always),
    "CudaSharedMemoryStatus": Rule("shared-memory"),
    "CudaSharedMemoryRegister": Rule("shared-memory", _always),
    "CudaSharedMemoryUnregister": Rule("shared-memory", _always),
    "TraceSetting": Rule("trace", _sets_trace),
    "LogSettings": Rule("logging", _sets_logging),
}

#: The rule of every RPC by its path; one that is not here cannot be served.
RULES = {
    **{_INFERENCE + name: rule for name, rule in _RULES.items()},
    **{path: Rule("metadata") for path in REFLECTION_PATHS},
    "/grpc.health.v1.Health/Check": Rule("health"),
}


def refusal(access: Access, rule: Rule, data: bytes, call: Call) -> Refusal | None:
    """Why this call is refused, None when it is not; it costs nothing where nothing is guarded."""
    if rule.changes is None and not access.guards_everything:
        return None
    changes = rule.changes is not None and rule.changes(data)
    return access.decide(rule.category, changes, _peer(call))


def _peer(call: Call) -> Peer:
    # grpcio does not show the authority; browsers cannot send gRPC, so there is nothing to rebind.
    metadata = call.invocation_metadata() or ()
    headers = [(name, value) for name, value in metadata if isinstance(value, str)]
    return Peer(_address(call.peer()), headers, shows_host=False)


def _address(peer: str) -> str:
    """The IP address in gRPC's name of a peer: `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return ""
    host = unquote(rest).rpartition(":")[0]
    return host.removeprefix("[").removesuffix("]")
