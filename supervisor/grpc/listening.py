"""Where the service listens, in words."""

from __future__ import annotations


def name_of(address: str, port: int) -> str:
    """Address and port in one."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def cannot_listen(address: str, port: int) -> OSError:
    """What ends a server whose port cannot be had."""
    return OSError(
        f"the gRPC service cannot listen on {name_of(address, port)}: the port is taken, or the "
        "address is not one of this machine; choose others by --grpc-port and --grpc-address"
    )
