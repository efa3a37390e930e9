"""What clients see of a `reshape`, and of requests of different shapes in one batch."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence

from ..case import Area, Case, Grpc, Http, Stream
from ..model_files import DATATYPES
from ..requests import behind, binary, call, document, message, post, tensor, wire_tensor
from ..setups import SHAPED
from ..shaped_models import RESHAPES

_ANY_ORDER = ("keys_in_any_order",)
_AS_BINARY = [{"name": "OUT", "parameters": {"binary_data": True}}]


def _numbers(shape: Sequence[int]) -> list[float]:
    return [number / 2 for number in range(math.prod(shape))]


def _blob(shape: Sequence[int]) -> bytes:
    return struct.pack(f"<{math.prod(shape)}f", *_numbers(shape))


def _named(model: str, shape: Sequence[int]) -> str:
    return f"{model} {'x'.join(map(str, shape)) or 'scalar'}"


def _json(model: str, shape: list[int]) -> Case:
    given = tensor(shape=shape, data=_numbers(shape))
    return post(f"HTTP {_named(model, shape)}", model, document([given]))


def _binary(model: str, shape: list[int]) -> Case:
    given = behind(4 * math.prod(shape), shape=shape)
    request = document([given], _AS_BINARY)
    return binary(f"binary {_named(model, shape)}", model, request, _blob(shape))


def _grpc(model: str, shape: list[int]) -> Case:
    return call(f"gRPC {_named(model, shape)}", model, [wire_tensor(shape=shape)], [_blob(shape)])


def _described(model: str) -> list[Case]:
    return [
        Http(f"metadata of {model}", "GET", f"/v2/models/{model}"),
        Grpc(f"gRPC metadata of {model}", "ModelMetadata", {"name": model}),
        Http(f"config of {model}", "GET", f"/v2/models/{model}/config", b"", {}, _ANY_ORDER),
    ]


def _extents(dims: str, variable: int = 3) -> list[int]:
    extents = [int(text) for text in dims.split(",") if text]
    return [variable if extent == -1 else extent for extent in extents]


def _of_reshape(name: str) -> list[Case]:
    """Shapes that fit, the one that the model sees, and one of as many elements as neither."""
    (dims, inner), _ = RESHAPES[name]
    shape, other = _extents(dims), _extents(dims if inner is None else inner)
    batches = f"{name}_batches"
    models = [batches] if inner == "" else [name, batches]
    cases = [case for model in models for case in _described(model)]
    for ask in (_json, _binary, _grpc):
        cases += [ask(batches, [rows, *shape]) for rows in (1, 3)]
        if name in models:
            cases.append(ask(name, shape))
    for ask in (_json, _grpc):
        cases += [ask(batches, [5, *shape]), ask(batches, shape)]
        if other != shape:
            cases.append(ask(batches, [2, *other]))
        if name in models:
            cases.append(ask(name, [*shape, 2]))
            if other != shape:
                cases.append(ask(name, other))
    return cases


def _of_type(datatype: str) -> list[Case]:
    """Six zeros of a datatype, or six empty strings; as they lie in memory both are zeros."""
    size = 4 if datatype == "BYTES" else 1
    if datatype not in ("BYTES", "BOOL"):
        size = int(datatype.lstrip("UINTBFP")) // 8
    blob = bytes(6 * size)
    name, wanted = f"IN_{datatype}", f"OUT_{datatype}"
    given = behind(len(blob), name=name, datatype=datatype, shape=[2, 3])
    as_binary = [{"name": wanted, "parameters": {"binary_data": True}}]
    wire = wire_tensor(name, datatype, [2, 3])
    flat = wire_tensor(name, datatype, [6])
    return [
        binary(f"binary of {datatype}", "types", document([given], as_binary), blob),
        call(f"gRPC of {datatype}", "types", [wire], [blob], {wanted: {}}),
        call(f"gRPC of {datatype} as the model sees it", "types", [flat], [blob], {wanted: {}}),
    ]


def _together(name: str, model: str, *shapes: Sequence[int]) -> Stream:
    """Requests that are all there when the batch is formed."""
    messages = [
        message(model, [wire_tensor(shape=shape)], [_blob(shape)], id=f"{index}")
        for index, shape in enumerate(shapes)
    ]
    return Stream(f"{model} {name}", messages, ["streams_by_request"])


_RAGGED: list[Case] = [
    *itertools.chain.from_iterable(map(_described, ("ragged", "even", "ragged_alone"))),
    _together("four lengths", "ragged", (1, 3), (1, 1), (1, 5), (1, 2)),
    _together("one length", "ragged", (1, 3), (1, 3), (1, 3), (1, 3)),
    _together("several rows", "ragged", (2, 3), (1, 1), (1, 4)),
    _together("two pairs", "ragged", (2, 3), (2, 5)),
    _together("a longest one", "ragged", (3, 1), (1, 100)),
    _together("an empty row", "ragged", (3, 2), (1, 0)),
    _together("one length", "even", (1, 3), (1, 3), (1, 3), (1, 3)),
    _together("two pairs", "even", (2, 3), (2, 3)),
    *(
        ask(model, shape)
        for model in ("ragged", "even", "ragged_alone")
        for ask in (_json, _binary, _grpc)
        for shape in ([4, 1], [4, 5], [4, 0])
    ),
    *(
        ask(model, shape)
        for model in ("ragged", "even")
        for ask in (_json, _grpc)
        for shape in ([5, 1], [4], [4, 1, 2])
    ),
]

AREAS = [
    Area("reshape", SHAPED, [case for name in RESHAPES for case in _of_reshape(name)]),
    Area("reshape of datatypes", SHAPED, [case for name in DATATYPES for case in _of_type(name)]),
    Area("ragged", SHAPED, _RAGGED),
]
