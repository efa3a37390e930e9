"""What an instance keeps of its sequences between their requests: implicit state.

The supervisor sends each request of a sequence to the same instance and names the slot there that
the sequence holds. The state lies under this number, from the request that starts a sequence to
the one that ends it, and never leaves the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..ipc.dtypes import from_config, numpy_dtype
from ..ipc.errors import InternalError, InvalidArgumentError
from ..ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, Request
from ..ipc.tensor import FramingError, decode_bytes, element_count
from .backend import Array, Model

#: A request and its inputs as arrays.
Received = tuple[Request, dict[str, Array]]


class _State(NamedTuple):
    """A tensor that goes from one request of a sequence to the next; `dims` without the batch."""

    input: str
    output: str
    dims: tuple[int, ...]
    #: What it is at the start of a sequence, in the graph's shape.
    initial: Array


class SequenceStates:
    """The states of a model's sequences, by slot. Used by one thread for each slot at a time."""

    def __init__(self, model: Model) -> None:
        """Read the configuration, and the files of initial states.

        Raises InvalidArgumentError when such a file is missing or too short.
        """
        sequence: Mapping[str, Any] = model.config.get("sequence_batching") or {}
        self._model = model.name
        self._batch = (1,) if model.config.get("max_batch_size") else ()
        self._states = [self._read(model, entry) for entry in sequence.get("state", ())]
        self._kept: dict[int, dict[str, Array]] = {}

    def __repr__(self) -> str:
        return (
            f"<SequenceStates of '{self._model}': {len(self._states)} in {len(self._kept)} slots>"
        )

    def __bool__(self) -> bool:
        return bool(self._states)

    def wanted(self, outputs: Sequence[str]) -> Sequence[str]:
        """The outputs that have to be computed for these to be answered: states as well."""
        more = [state.output for state in self._states if state.output not in outputs]
        return [*outputs, *more] if more else outputs

    def put_in(self, request: Request, inputs: dict[str, Array]) -> None:
        """Give a request the states of its sequence as inputs, where it does not bring its own."""
        start = request.flags & FLAG_SEQUENCE_START
        kept = {} if start else self._kept.get(request.slot, {})
        for state in self._states:
            if state.input not in inputs:
                inputs[state.input] = kept.get(state.input, state.initial)

    def keep(self, request: Request, outputs: Mapping[str, Array]) -> None:
        """Take the new states of a request's sequence from what the model has returned.

        Raises InternalError when one has another shape than the configuration says.
        """
        if request.slot < 0:
            return
        if request.flags & FLAG_SEQUENCE_END:
            self._kept.pop(request.slot, None)
            return
        new: dict[str, Array] = {}
        for state in self._states:
            array = outputs.get(state.output)
            if array is not None:
                self._check(state, array)
                new[state.input] = np.array(array, state.initial.dtype)  # it outlives its request
        kept = {} if request.flags & FLAG_SEQUENCE_START else self._kept.get(request.slot, {})
        self._kept[request.slot] = {**kept, **new}

    def alike(self, received: Sequence[Received]) -> list[Sequence[Received]]:
        """The requests in groups that can run together: sequences' states may differ in shape."""
        groups: dict[tuple[tuple[int, ...], ...], list[Received]] = {}
        for each in received:
            shapes = tuple(each[1][state.input].shape for state in self._states)
            groups.setdefault(shapes, []).append(each)
        return list(groups.values())

    def _check(self, state: _State, array: Array) -> None:
        full = (*self._batch, *state.dims)
        if len(array.shape) != len(full) or any(
            want not in (-1, got) for want, got in zip(full, array.shape, strict=True)
        ):
            raise InternalError(
                f"model '{self._model}' returned state '{state.output}' with shape "
                f"{list(array.shape)}, expected {list(full)}"
            )

    def _read(self, model: Model, entry: Mapping[str, Any]) -> _State:
        dims = tuple(entry["dims"])
        initial: Sequence[Mapping[str, Any]] = entry.get("initial_state", ())
        given: Mapping[str, Any] = initial[0] if initial else {}
        # What varies is 1 long at first, unless the initial state says otherwise, whose dims are
        # text in Triton's JSON.
        shape = (*self._batch, *(max(1, int(extent)) for extent in given.get("dims") or dims))
        datatype = from_config(entry["data_type"])
        file = given.get("data_file")
        if file:
            array = _from_file(model, entry["input_name"], file, datatype, shape)
        else:
            array = np.full(shape, b"" if datatype == "BYTES" else 0, numpy_dtype(datatype))
        array.flags.writeable = False
        return _State(entry["input_name"], entry["output_name"], dims, array)


def filled(rows: Sequence[Received]) -> list[Received]:
    """Give the null requests among these the inputs that they lack: zeros like the others'.

    Without a request that is none there is nothing to run, and the list is empty.
    """
    like = next((inputs for request, inputs in rows if not request.null), None)
    if like is None:
        return []
    zeros = {name: _zeros(array) for name, array in like.items()}
    return [(request, {**zeros, **inputs} if request.null else inputs) for request, inputs in rows]


def without_nulls(rows: Iterable[Received]) -> list[Received]:
    """The requests that somebody waits for."""
    return [each for each in rows if not each[0].null]


def _zeros(array: Array) -> Array:
    return np.full(array.shape, b"" if array.dtype.kind == "O" else 0, array.dtype)


def _from_file(model: Model, name: str, file: str, datatype: str, shape: tuple[int, ...]) -> Array:
    folder = Path(model.directory, "initial_state").resolve()
    path = folder.joinpath(file).resolve()
    problem = f"the initial state of '{name}' of model '{model.name}'"
    if folder not in path.parents:
        raise InvalidArgumentError(
            f"{problem}: the file '{file}' does not lie in the model's folder 'initial_state'"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(
            f"{problem}: the file 'initial_state/{file}' cannot be read: {error.strerror or error}"
        ) from None
    count = element_count(shape)
    if datatype == "BYTES":
        try:
            return decode_bytes(data, count).reshape(shape)
        except FramingError as error:
            raise InvalidArgumentError(f"{problem}: 'initial_state/{file}': {error}") from None
    dtype = numpy_dtype(datatype)
    size = count * dtype.itemsize
    if len(data) < size:
        raise InvalidArgumentError(
            f"initial_state setting expects {size} bytes, but the data provided from {file} only "
            f"has {len(data)} bytes"
        )
    return np.frombuffer(data[:size], dtype).reshape(shape).copy()
