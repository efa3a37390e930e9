"""The inputs by which a model is told where it is in a sequence: START, END, READY, CORRID."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...ipc.dtypes import DataType, from_config
from ...ipc.errors import InvalidArgumentError, UnsupportedError
from ...ipc.tensor import Tensor, encode_bytes
from ..config.schema import Control, ModelConfig

#: The bounds of the integers that a correlation id may be told as.
_INTEGERS: Mapping[str, tuple[str, int, int]] = {
    "UINT64": ("<Q", 0, 2**64 - 1),
    "INT64": ("<q", -(2**63), 2**63 - 1),
    "UINT32": ("<I", 0, 2**32 - 1),
    "INT32": ("<i", -(2**31), 2**31 - 1),
}

_LONGEST_ID = 128


class _Signal(NamedTuple):
    """A control that is false or true: its input, and the bytes of both."""

    name: str
    datatype: DataType
    values: tuple[bytes, bytes]

    def tensor(self, shape: tuple[int, ...], value: bool) -> Tensor:
        return Tensor(self.name, self.datatype, shape, memoryview(self.values[value]))


class SequenceControls:
    """The control inputs of one model."""

    def __init__(self, config: ModelConfig) -> None:
        batching = config.sequence_batching
        assert batching is not None
        self._model = config.name
        self._shape = (1, 1) if config.max_batch_size > 0 else (1,)
        self._signals: dict[str, _Signal] = {}
        self._id: tuple[str, DataType] | None = None
        for entry in batching.control_input:
            for control in entry.control:
                kind = control.kind.removeprefix("CONTROL_SEQUENCE_")
                if kind == "CORRID":
                    self._id = entry.name, from_config(control.data_type)
                else:
                    self._signals[kind] = _signal(entry.name, control)
        #: What a row tells that no sequence is in.
        self.null = self.tensors(_no_id(self._id), start=False, end=False, ready=False)

    def check_id(self, id: int | str) -> None:
        """Refuse a correlation id that the model cannot be told.

        Raises InvalidArgumentError, or UnsupportedError for one that is too long.
        """
        if isinstance(id, str) and len(id.encode()) > _LONGEST_ID:
            raise UnsupportedError(
                f"string correlation ID cannot be longer than {_LONGEST_ID} characters"
            )
        if self._id is None:
            return
        name, datatype = self._id
        if (datatype == "BYTES") != isinstance(id, str):
            got = "a string" if isinstance(id, str) else "a number"
            raise InvalidArgumentError(
                f"inference request for sequence {id} to model '{self._model}' has a correlation "
                f"ID that is {got}, but control input '{name}' is {datatype}"
            )
        if isinstance(id, str):
            return
        _, least, most = _INTEGERS[datatype]
        if not least <= id <= most:
            raise InvalidArgumentError(
                f"inference request for sequence {id} to model '{self._model}' has a correlation "
                f"ID that does not fit control input '{name}', which is {datatype}"
            )

    def as_id(self, number: int) -> int | str:
        """A number as an id that the model can be told."""
        return str(number) if self._id is not None and self._id[1] == "BYTES" else number

    def tensors(self, id: int | str, *, start: bool, end: bool, ready: bool = True) -> list[Tensor]:
        """The inputs of one request; `check_id` has passed its id."""
        told = {"START": start, "END": end, "READY": ready}
        found = [signal.tensor(self._shape, told[kind]) for kind, signal in self._signals.items()]
        if self._id is not None:
            name, datatype = self._id
            if datatype == "BYTES":
                data = encode_bytes([str(id).encode()])
            else:
                data = struct.pack(_INTEGERS[datatype][0], id)
            found.append(Tensor(name, datatype, self._shape, memoryview(data)))
        return found


def _no_id(found: tuple[str, DataType] | None) -> int | str:
    return "" if found is not None and found[1] == "BYTES" else 0


_PACK: Mapping[DataType, Callable[[float], bytes]] = {
    "INT32": lambda value: struct.pack("<i", int(value)),
    "FP32": lambda value: np.float32(value).tobytes(),
    "BOOL": lambda value: struct.pack("<?", bool(value)),
}


def _signal(name: str, control: Control) -> _Signal:
    pairs: list[tuple[DataType, Sequence[float]]] = [
        ("INT32", control.int32_false_true),
        ("FP32", control.fp32_false_true),
        ("BOOL", control.bool_false_true),
    ]
    datatype, (no, yes) = next(each for each in pairs if each[1])
    pack = _PACK[datatype]
    return _Signal(name, datatype, (pack(no), pack(yes)))
