"""Where the pieces of a body go."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.supervisor.http.conftest import STEP_BYTES, FakeDataPlane, FakeLease

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor
from tritonpy.supervisor.http.filling import Filling, Part
from tritonpy.supervisor.http.json_codec import OutputForms, ParsedRequest
from tritonpy.supervisor.http.placing import lay_out
from tritonpy.supervisor.memory.copies import COPIES
from tritonpy.supervisor.request import InferRequest

if TYPE_CHECKING:
    from tritonpy.supervisor.dataplane import DataPlane

LIMIT = 1 << 20


def parsed(*sizes: int | None) -> ParsedRequest:
    """A request with an input for each size; None for one whose data are in its document."""
    inputs = [
        Tensor(
            f"IN{index}",
            "UINT8",
            (0,),
            memoryview(b"here!" if size is None else b""),
        )
        for index, size in enumerate(sizes)
    ]
    return ParsedRequest(InferRequest("echo", None, inputs), list(sizes), OutputForms())


def bytes_of(plane: FakeDataPlane, request: ParsedRequest) -> list[bytes]:
    return [bytes(plane.read(tensor)) for tensor in request.request.inputs]


def fill(filling: Filling, body: bytes, pieces: list[int]) -> None:
    """Write a body as somebody does who has so many bytes at a time."""
    at = 0
    for piece in [*pieces, len(body)]:
        while piece and filling.left:
            room = filling.room()
            taken = min(piece, len(room))
            room[:taken] = body[at : at + taken]
            filling.filled(taken)
            at += taken
            piece -= taken
    assert at == len(body)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.sampled_from([0, 1, 63, INLINE_LIMIT_BYTES, INLINE_LIMIT_BYTES + 1, 3 * STEP_BYTES]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.integers(1, 2 * STEP_BYTES), max_size=4),
)
def test_every_tensor_gets_its_bytes_however_they_come(
    sizes: list[int | None], pieces: list[int]
) -> None:
    plane = FakeDataPlane()
    request = parsed(*sizes)
    total = sum(size or 0 for size in sizes)
    body = np.random.default_rng(1).bytes(total)
    filling = lay_out(cast("DataPlane", plane), request, total, LIMIT)
    assert filling.left == total
    fill(filling, body, pieces)
    assert not filling.left
    expected: list[bytes] = []
    at = 0
    for size in sizes:
        expected.append(b"here!" if size is None else body[at : at + size])
        at += size or 0
    assert bytes_of(plane, request) == expected


def test_tensors_in_a_lease_begin_where_vectors_can_be_loaded() -> None:
    plane = FakeDataPlane()
    request = parsed(INLINE_LIMIT_BYTES + 1, 3, INLINE_LIMIT_BYTES + 2, INLINE_LIMIT_BYTES + 3)
    lay_out(cast("DataPlane", plane), request, 3 * INLINE_LIMIT_BYTES + 9, LIMIT)
    spans = [tensor.data for tensor in request.request.inputs if isinstance(tensor.data, Span)]
    assert len(spans) == 3
    assert [span.offset % 64 for span in spans] == [0, 0, 0]


def test_many_small_tensors_need_no_lease() -> None:
    plane = FakeDataPlane()
    request = parsed(*[INLINE_LIMIT_BYTES] * 20)
    filling = lay_out(cast("DataPlane", plane), request, 20 * INLINE_LIMIT_BYTES, LIMIT)
    fill(filling, bytes(range(256)) * (20 * INLINE_LIMIT_BYTES // 256), [])
    assert not plane.leases
    assert set(bytes_of(plane, request)) == {bytes(range(256)) * (INLINE_LIMIT_BYTES // 256)}


def test_small_tensors_are_bounded_as_what_stays_in_the_servers_memory() -> None:
    with pytest.raises(InvalidArgumentError, match="exceeds the maximum allowed input size"):
        lay_out(
            cast("DataPlane", FakeDataPlane()),
            parsed(*[INLINE_LIMIT_BYTES] * 20),
            20 * INLINE_LIMIT_BYTES,
            19 * INLINE_LIMIT_BYTES,
        )


def test_only_what_is_taken_from_elsewhere_counts_as_copied() -> None:
    before = COPIES.inward
    filling = Filling([Part(FakeLease(10), 0, 10)], memoryview(b""))
    filling.take(b"abc")
    filling.room()[:7] = b"defghij"
    filling.filled(7)
    assert COPIES.inward - before == 3
    Filling([Part(None, 0, 3)], memoryview(bytearray(3)), tensors=False).take(b"{}\n")
    assert COPIES.inward - before == 3
