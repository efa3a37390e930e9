"""The transports of gRPC, for tests that have to hold on each of them.

A server's fixture takes the option from the fixture `transport`, which these marks give values to.
"""

from __future__ import annotations

import pytest

TRANSPORTS = ["grpcio", "lean"]

#: For tests whose server is their own.
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)

#: For modules whose servers serve all of their tests.
each_transport_for_all = pytest.mark.parametrize("transport", TRANSPORTS, scope="module")


def option(transport: str) -> str:
    """The option that starts a server on a transport."""
    return f"--grpc-transport={transport}"
