"""Responses that wait for a client to read them: how much of it is kept for one client.

A model may answer faster than its client reads. What waits lies in our memory or in the model's
arena, so that one client who does not read could fill either.
"""

from __future__ import annotations

from ..ipc.errors import UnavailableError
from .request import InferResponse

#: The most that waits for one client, and what a response is counted as beside its tensors.
MOST_WAITING_BYTES = 64 * 1024 * 1024
RESPONSE_BYTES = 512


def size_of(response: InferResponse) -> int:
    """What a response that waits counts as."""
    return RESPONSE_BYTES + sum(tensor.byte_size for tensor in response.outputs)


def replace_by_refusal(response: InferResponse) -> None:
    """Make of the response for which there is no room the last one, which says so."""
    response.outputs = []
    response.error = UnavailableError(
        "the request is cancelled: its client reads slower than the model answers, and "
        f"more than {MOST_WAITING_BYTES} bytes of responses waited; read the stream "
        "faster, or have the model answer more slowly"
    )
    response.final = True
