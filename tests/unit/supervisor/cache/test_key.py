"""Keys: equal for requests that must be answered alike, different for all others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tritonpy.ipc.tensor import Region, Span, Tensor
from tritonpy.supervisor.cache.key import KeyMaker
from tritonpy.supervisor.request import InferRequest

DATA = bytes(range(8))


def tensor(name: str = "A", data: bytes = DATA, shape: tuple[int, ...] = (2,)) -> Tensor:
    return Tensor(name, "FP32", shape, memoryview(data))


def request(*inputs: Tensor, **more: object) -> InferRequest:
    made = InferRequest("m", None, list(inputs) or [tensor()], **more)  # type: ignore[arg-type]
    made.wanted = ["OUT"]
    return made


def no_spans(span: Span) -> memoryview | None:
    return None


def key_of(request: InferRequest, maker: KeyMaker | None = None) -> bytes:
    found = (maker or KeyMaker("m", 1, b"g")).key(request, no_spans)
    assert found is not None
    return found


def test_equal_requests_have_equal_keys_whatever_their_id_priority_and_timeout() -> None:
    other = request(id="r2", priority=3, timeout_us=7)
    assert key_of(request(id="r1")) == key_of(other)
    assert len(key_of(other)) == 32


def test_the_order_of_inputs_and_parameters_does_not_count() -> None:
    one = request(tensor("A"), tensor("B"), parameters={"x": 1, "y": "2"})
    other = request(tensor("B"), tensor("A"), parameters={"y": "2", "x": 1})
    assert key_of(one) == key_of(other)


_CHANGES: dict[str, Callable[[InferRequest], InferRequest]] = {
    "bytes": lambda r: replace(r, inputs=[tensor(data=bytes(8))]),
    "name": lambda r: replace(r, inputs=[tensor("B")]),
    "shape": lambda r: replace(r, inputs=[tensor(shape=(1, 2))]),
    "datatype": lambda r: replace(r, inputs=[Tensor("A", "INT32", (2,), memoryview(DATA))]),
    "another input": lambda r: replace(r, inputs=[tensor(), tensor("B", b"", (0,))]),
    "outputs": lambda r: replace(r, wanted=["OUT", "OTHER"]),
    "parameter": lambda r: replace(r, parameters={"x": 1}),
    "type of a parameter": lambda r: replace(r, parameters={"x": True}),
    "float parameter": lambda r: replace(r, parameters={"x": 1.0}),
    "text parameter": lambda r: replace(r, parameters={"x": "1"}),
    "correlation id": lambda r: replace(r, correlation_id=1),
    "text correlation id": lambda r: replace(r, correlation_id="1"),
    "flags": lambda r: replace(r, flags=1),
}


def test_whatever_decides_the_answer_makes_another_key() -> None:
    keys = {"nothing": key_of(request())}
    keys |= {what: key_of(change(request())) for what, change in _CHANGES.items()}
    keys |= {
        "model": key_of(request(), KeyMaker("n", 1, b"g")),
        "version": key_of(request(), KeyMaker("m", 2, b"g")),
        "generation": key_of(request(), KeyMaker("m", 1, b"h")),
    }
    assert len(set(keys.values())) == len(keys)


_parts = st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=5)), max_size=4)


@given(_parts, _parts)
def test_inputs_that_differ_in_any_way_never_become_the_same_stream(
    one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]
) -> None:
    keys = [
        key_of(request(*(tensor(name, data, (len(data),)) for name, data in parts), tensor("end")))
        for parts in (one, other)
    ]
    by_name: Callable[[tuple[str, bytes]], str] = lambda part: part[0]  # noqa: E731
    assert (keys[0] == keys[1]) == (sorted(one, key=by_name) == sorted(other, key=by_name))


def test_bytes_in_shared_memory_count_as_those_that_came_along() -> None:
    spanned = request(Tensor("A", "FP32", (2,), Span(4, 0, len(DATA))))
    found = KeyMaker("m", 1, b"g").key(spanned, lambda span: memoryview(DATA)[: span.size])
    assert found == key_of(request())


@pytest.mark.parametrize("data", [Span(4, 0, 8), Region(1, 0, 8)])
def test_without_the_bytes_of_an_input_there_is_no_key(data: Span | Region) -> None:
    made = request(Tensor("A", "FP32", (2,), data))
    assert KeyMaker("m", 1, b"g").key(made, no_spans) is None
