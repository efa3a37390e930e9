"""One batch out of many requests, and one answer a request out of the batch's outputs.

Everything here is a pure function over numpy arrays. Where the model batches, axis 0 of every
tensor is the batch: `rows` says how many of its entries belong to each request, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..ipc.errors import InternalError
from .backend import Array
from .copies import COPIES
from .padding import Lengths, Padder
from .ragged import Ragged, join_elements
from .reshape import from_graph_shape, reshapes, to_graph_shape

#: Arrays of at least this size are looked at for being adjacent. Measured: to find that out costs
#: 2.5 µs an array, as much as copying about this many bytes.
_VIEW_FROM_BYTES = 64 * 1024


class GraphShapes:
    """What a configuration says about batching, and about tensors whose graph shape is another."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.batching = int(config.get("max_batch_size") or 0) > 0
        self.inputs = reshapes(config.get("input") or ())
        self.outputs = reshapes(config.get("output") or ())
        self.ragged = Ragged.of(config)
        self.padder = Padder.of(config)
        flat = self.ragged.inputs if self.ragged is not None else frozenset[str]()
        #: The reshapes of inputs that are joined row by row; ragged ones lose their shape.
        self.joined = {name: each for name, each in self.inputs.items() if name not in flat}


class Batch(NamedTuple):
    """The inputs of a batch in the graph's shapes, and how many rows belong to each request."""

    arrays: dict[str, Array]
    rows: list[int]


def gather(requests: Sequence[dict[str, Array]], shapes: GraphShapes) -> Batch:
    """Join the inputs of the requests along axis 0, in the shapes that the graph has.

    Nothing is copied for a single request, nor for an input whose arrays follow one another in the
    same buffer; the result then aliases them, and is read-only if one of them is. Without batching
    there must be exactly one request. Raises InternalError when the requests do not fit together,
    InvalidArgumentError when an input does not have its configured shape.
    """
    if not shapes.batching and len(requests) != 1:
        raise InternalError(
            f"a model without batching was handed {len(requests)} requests at once, expected 1"
        )
    rows = [_rows(inputs) for inputs in requests] if shapes.batching else [1]
    ragged, padder = shapes.ragged, shapes.padder
    generated: dict[str, Array] = {}
    if ragged is not None:
        generated |= ragged.generate(requests)
    buckets: Lengths | None = None
    if padder is not None:
        lengths = padder.lengths(requests)
        buckets = padder.buckets(lengths)
        generated |= padder.generate(lengths, rows, buckets)
    alone = len(requests) == 1 and ragged is None and padder is None
    arrays = requests[0] if alone else _joined(requests, shapes, buckets)
    arrays = to_graph_shape(arrays, shapes.joined, shapes.batching)
    return Batch({**arrays, **generated} if generated else arrays, rows)


def _joined(
    requests: Sequence[dict[str, Array]], shapes: GraphShapes, buckets: Lengths | None
) -> dict[str, Array]:
    ragged, padder = shapes.ragged, shapes.padder
    first = requests[0]
    for inputs in requests:
        if inputs.keys() != first.keys():
            raise InternalError(
                f"requests of one batch have different inputs: {_names(first)} and {_names(inputs)}"
            )
    joined: dict[str, Array] = {}
    for name in first:
        arrays = [inputs[name] for inputs in requests]
        if ragged is not None and name in ragged.inputs:
            joined[name] = join_elements(arrays)
        elif padder is not None and buckets is not None and name in padder.inputs:
            joined[name] = padder.join(name, arrays, buckets)
        else:
            joined[name] = _join(name, arrays)
    return joined


def scatter(
    outputs: dict[str, Array],
    rows: Sequence[int],
    shapes: GraphShapes,
    requests: Sequence[Mapping[str, Array]] = (),
) -> list[dict[str, Array]]:
    """Cut the outputs of a batch into one dict of views a request, in the clients' shapes.

    `requests` are the inputs that the batch was gathered from; only the outputs of a ragged or
    padded batch need them. Raises InternalError when an output has another first dimension than the
    batch had, or not the shape that the configuration says.
    """
    answers = _scattered(outputs, rows, shapes, requests)
    padder = shapes.padder
    if padder is None:
        return answers
    lengths = padder.lengths(requests)
    buckets = padder.buckets(lengths)
    return [padder.cut(answer, own, buckets) for answer, own in zip(answers, lengths, strict=True)]


def _scattered(
    outputs: dict[str, Array],
    rows: Sequence[int],
    shapes: GraphShapes,
    requests: Sequence[Mapping[str, Array]],
) -> list[dict[str, Array]]:
    ragged = shapes.ragged
    if ragged is None:
        return _cut(outputs, rows, shapes)
    plain = {name: array for name, array in outputs.items() if name not in ragged.scattered}
    answers = [dict(answer) for answer in _cut(plain, rows, shapes)]
    for name in outputs.keys() & ragged.scattered:
        pieces = ragged.scatter(name, outputs[name], requests)
        for answer, piece in zip(answers, pieces, strict=True):
            answer.update(from_graph_shape({name: piece}, shapes.outputs, shapes.batching))
    return answers


def _cut(
    outputs: dict[str, Array], rows: Sequence[int], shapes: GraphShapes
) -> list[dict[str, Array]]:
    """Cut the outputs by rows of the batch."""
    if not shapes.batching:
        return [from_graph_shape(outputs, shapes.outputs, False)]
    total = sum(rows)
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != total:
            raise InternalError(
                f"the model returned output '{name}' with shape {list(array.shape)} for a batch of "
                f"{total}: expected {total} as its first dimension"
            )
    outputs = from_graph_shape(outputs, shapes.outputs, True)
    if len(rows) == 1:
        return [outputs]
    answers: list[dict[str, Array]] = []
    start = 0
    for count in rows:
        end = start + count
        answers.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return answers


# --- joining --------------------------------------------------------------------------------------


def _rows(inputs: Mapping[str, Array]) -> int:
    """How many rows of the batch a request has; 1 for a request without inputs."""
    rows = -1
    for name, array in inputs.items():
        if array.ndim == 0:
            raise InternalError(f"input '{name}' has no batch dimension")
        if rows < 0:
            rows = array.shape[0]
        elif array.shape[0] != rows:
            raise InternalError(
                f"input '{name}' has batch size {array.shape[0]}, the inputs before it have {rows}"
            )
    return 1 if rows < 0 else rows


def _join(name: str, arrays: list[Array]) -> Array:
    first = arrays[0]
    dtype, tail = first.dtype, first.shape[1:]
    for array in arrays:
        if array.shape[1:] != tail or (array.dtype is not dtype and array.dtype != dtype):
            raise InternalError(
                f"requests of one batch have different '{name}' inputs: "
                f"{first.dtype} {list(first.shape)} and {array.dtype} {list(array.shape)}"
            )
    if first.nbytes >= _VIEW_FROM_BYTES and dtype.kind != "O":
        view = _adjacent(arrays)
        if view is not None:
            return view
    joined: Array = np.concatenate(arrays)
    COPIES.joined += joined.nbytes
    return joined


def _adjacent(arrays: list[Array]) -> Array | None:
    """One view over arrays that follow one another in the same buffer, or None.

    Equal addresses alone would not do: two buffers may touch by accident, and the view keeps only
    the first array's buffer alive.
    """
    first = arrays[0]
    owner = _exporter(first)
    end = first.__array_interface__["data"][0]
    count = 0
    writeable = True
    for array in arrays:
        if not array.flags.c_contiguous or array.__array_interface__["data"][0] != end:
            return None
        if _exporter(array) is not owner:
            return None
        end += array.nbytes
        count += array.size
        writeable = writeable and array.flags.writeable
    flat = np.lib.stride_tricks.as_strided(
        first.reshape(-1), shape=(count,), strides=(first.itemsize,), writeable=writeable
    )
    return flat.reshape((-1, *first.shape[1:]))


def _exporter(array: Array) -> object:
    """Whose memory an array shows, behind all views and memoryviews."""
    owner: Any = array
    while True:
        below = getattr(owner, "obj" if type(owner) is memoryview else "base", None)
        if below is None:
            return owner
        owner = below


def _names(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"'{name}'" for name in inputs) or "none"
