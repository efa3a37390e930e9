"""Every message means the same on the other side of the process line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc import messages
from tritonpy.ipc.dtypes import DATATYPES
from tritonpy.ipc.messages import FromWorker, ToWorker
from tritonpy.ipc.tensor import CudaRegion, Region, Span, Tensor

Strategy = st.SearchStrategy[Any]


def _view(data: bytes) -> memoryview:
    return memoryview(data)


NUMBER = st.integers(0, 2**63 - 1)
TEXT = st.text(max_size=20)
PARAMETER = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    TEXT,
)
PARAMETERS = st.dictionaries(TEXT, PARAMETER, max_size=4)
ERROR = st.builds(messages.Error, TEXT, TEXT, st.booleans())
INSTANCE = st.builds(messages.Instance, TEXT, TEXT, NUMBER, NUMBER)
FILES = st.builds(messages.ModelFiles, TEXT, NUMBER, TEXT, TEXT)
STRINGS = st.dictionaries(TEXT, TEXT, max_size=3)
REGION = st.one_of(
    st.builds(Region, NUMBER, NUMBER, NUMBER), st.builds(CudaRegion, NUMBER, NUMBER, NUMBER)
)
MEMORY = st.builds(messages.MemoryUsage, TEXT, NUMBER, NUMBER)
TENSOR = st.builds(
    Tensor,
    TEXT,
    st.sampled_from(DATATYPES),
    st.lists(NUMBER, max_size=4).map(tuple),
    st.one_of(st.binary(max_size=50).map(_view), st.builds(Span, NUMBER, NUMBER, NUMBER), REGION),
)
TENSORS = st.lists(TENSOR, max_size=3)
REQUEST = st.builds(
    messages.Request,
    NUMBER,
    TENSORS,
    st.lists(TEXT, max_size=3),
    TEXT,
    PARAMETERS,
    st.one_of(NUMBER, TEXT),
    NUMBER,
    NUMBER,
    NUMBER,
    st.dictionaries(TEXT, REGION, max_size=2),
    st.lists(TEXT, max_size=2),
)
RESPONSE = st.builds(
    messages.Response, NUMBER, TENSORS, st.booleans(), st.one_of(st.none(), ERROR), PARAMETERS
)
VALUE = st.floats(allow_nan=False)
CHANGE = st.builds(
    messages.MetricChange,
    TEXT,
    st.lists(st.tuples(TEXT, TEXT), max_size=2),
    VALUE,
    st.one_of(st.none(), VALUE),
    st.lists(VALUE, max_size=2),
    st.lists(NUMBER, max_size=3),
    st.booleans(),
)

MESSAGES: dict[type, Strategy] = {
    messages.Describe: st.builds(messages.Describe, FILES, TEXT, INSTANCE, STRINGS),
    messages.Load: st.builds(messages.Load, FILES, TEXT, INSTANCE, STRINGS),
    messages.AttachArena: st.builds(messages.AttachArena, NUMBER, NUMBER),
    messages.DetachArena: st.builds(messages.DetachArena, NUMBER),
    messages.AttachRegion: st.builds(messages.AttachRegion, NUMBER, TEXT, NUMBER),
    messages.AttachCudaRegion: st.builds(
        messages.AttachCudaRegion, NUMBER, TEXT, st.binary(), NUMBER, TEXT, TEXT, NUMBER
    ),
    messages.CudaRegionAttached: st.builds(
        messages.CudaRegionAttached, NUMBER, st.one_of(st.none(), ERROR)
    ),
    messages.DetachRegion: st.builds(messages.DetachRegion, NUMBER),
    messages.AttachClaims: st.builds(messages.AttachClaims, NUMBER),
    messages.Execute: st.builds(
        messages.Execute, NUMBER, st.lists(REQUEST, max_size=3), st.booleans()
    ),
    messages.Release: st.builds(messages.Release, st.lists(NUMBER)),
    messages.Cancel: st.builds(messages.Cancel, st.lists(NUMBER)),
    messages.Trim: st.builds(messages.Trim),
    messages.Stop: st.builds(messages.Stop),
    messages.Started: st.builds(messages.Started),
    messages.Described: st.builds(messages.Described, TEXT),
    messages.Loaded: st.builds(messages.Loaded, st.booleans(), st.lists(MEMORY, max_size=2)),
    messages.LoadFailed: st.builds(messages.LoadFailed, ERROR),
    messages.Executed: st.builds(
        messages.Executed,
        NUMBER,
        NUMBER,
        NUMBER,
        NUMBER,
        NUMBER,
        st.lists(RESPONSE, max_size=3),
    ),
    messages.Responded: st.builds(messages.Responded, RESPONSE),
    messages.Log: st.builds(messages.Log, TEXT, TEXT, TEXT, NUMBER),
    messages.Stopped: st.builds(messages.Stopped),
    messages.AttachReadiness: st.builds(messages.AttachReadiness, NUMBER),
    messages.Readiness: st.builds(messages.Readiness, st.booleans()),
    messages.Call: st.builds(
        messages.Call, TEXT, NUMBER, REQUEST, st.booleans(), NUMBER, st.booleans(), NUMBER
    ),
    messages.Answer: st.builds(
        messages.Answer, RESPONSE, st.dictionaries(TEXT, NUMBER, max_size=2), st.lists(TEXT)
    ),
    messages.Withdraw: st.builds(messages.Withdraw, NUMBER),
    messages.Returned: st.builds(messages.Returned, st.lists(NUMBER)),
    messages.LoadModel: st.builds(
        messages.LoadModel, NUMBER, TEXT, TEXT, st.dictionaries(TEXT, st.binary(), max_size=2)
    ),
    messages.UnloadModel: st.builds(messages.UnloadModel, NUMBER, TEXT, st.booleans()),
    messages.AskReady: st.builds(messages.AskReady, NUMBER, TEXT, TEXT),
    messages.Done: st.builds(messages.Done, NUMBER, st.booleans(), st.one_of(st.none(), ERROR)),
    messages.DeclareFamily: st.builds(messages.DeclareFamily, NUMBER, TEXT, TEXT, TEXT),
    messages.MetricChanges: st.builds(
        messages.MetricChanges, st.lists(CHANGE, max_size=3), st.lists(TEXT)
    ),
}


def _kinds(union: Any) -> list[type]:
    return list(get_args(union))


@pytest.mark.parametrize("kind", _kinds(ToWorker), ids=lambda kind: kind.__name__)
def test_what_a_worker_is_told_arrives_as_it_was(kind: type) -> None:
    _round_trip(kind, msgspec.msgpack.Decoder(ToWorker).decode)


@pytest.mark.parametrize("kind", _kinds(FromWorker), ids=lambda kind: kind.__name__)
def test_what_a_worker_says_arrives_as_it_was(kind: type) -> None:
    _round_trip(kind, msgspec.msgpack.Decoder(FromWorker).decode)


def test_all_messages_are_known_here() -> None:
    assert set(_kinds(ToWorker)) | set(_kinds(FromWorker)) == set(MESSAGES)


def _round_trip(kind: type, decode: Callable[[bytes], Any]) -> None:
    @given(MESSAGES[kind])
    def check(message: Any) -> None:
        decoded = decode(msgspec.msgpack.encode(message))

        assert type(decoded) is kind
        assert decoded == message

    check()
