"""Traces in Triton's file format: a JSON array of small objects that share the trace's id."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson

from ...ipc.dtypes import numpy_dtype
from ...ipc.tensor import decode_bytes
from .trace import Entry, Identity, Stamp, Trace, TracedTensor

log = logging.getLogger(__name__)


class TraceFile:
    """Collects traces and writes them: so many to a file, the rest at the end.

    A thread does all the work, in the order in which the traces came. Every file is complete from
    the moment at which it has its name.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "trace-file")
        self._entries: list[bytes] = []
        self._traces = 0
        self._files = 0

    def __repr__(self) -> str:
        return f"<TraceFile {self._path}: {self._traces} traces, {self._files} files written>"

    def add(self, trace: Trace) -> None:
        """Take a trace; returns at once."""
        self._thread.submit(self._take, trace)

    def close(self) -> None:
        """Write what is left; blocks until it is written."""
        self._thread.submit(self._finish)
        self._thread.shutdown()

    def _take(self, trace: Trace) -> None:
        try:
            self._entries += [orjson.dumps(entry_document(trace.id, e)) for e in trace.entries]
        except Exception:  # a trace must not take others along
            log.exception("trace %d cannot be written", trace.id)
            return
        self._traces += 1
        if trace.frequency and self._traces >= trace.frequency:
            self._write(f"{self._path}.{self._files}")

    def _finish(self) -> None:
        if self._entries:
            self._write(f"{self._path}.{self._files}" if self._files else self._path)

    def _write(self, path: str) -> None:
        partial = f"{path}.partial"
        try:
            with open(partial, "wb") as file:
                file.write(b"[" + b",".join(self._entries) + b"]")
            os.replace(partial, path)
        except OSError as error:
            log.error(
                "%d traces are lost: '%s' cannot be written: %s",
                self._traces,
                path,
                error.strerror,
            )
        self._entries, self._traces = [], 0
        self._files += 1


def entry_document(number: int, entry: Entry) -> dict[str, Any]:
    """One entry of a trace as the object that the file holds."""
    if isinstance(entry, Stamp):
        return {"id": number, "timestamps": [{"name": entry.name, "ns": entry.ns}]}
    if isinstance(entry, Identity):
        document: dict[str, Any] = {
            "id": number,
            "model_name": entry.model,
            "model_version": entry.version,
        }
        if entry.request_id:
            document["request_id"] = entry.request_id
        if entry.parent_id:
            document["parent_id"] = entry.parent_id
        return document
    tensor = {
        "name": entry.name,
        "data": data_text(entry),
        "shape": ",".join(map(str, entry.shape)),
        "dtype": entry.datatype,
    }
    return {"id": number, "activity": entry.activity, "tensor": tensor}


def data_text(tensor: TracedTensor) -> str:
    """The elements with commas between them, as C++ prints them; "" for FP16 and BF16."""
    data, datatype = tensor.data, tensor.datatype
    if data is None or datatype in ("FP16", "BF16"):
        return ""
    if datatype == "BYTES":
        elements = decode_bytes(data, int(np.prod(tensor.shape, dtype=np.int64)))
        return ",".join(bytes(element).decode("utf-8", "backslashreplace") for element in elements)
    array = np.frombuffer(data, numpy_dtype(datatype))
    if array.dtype.kind == "f":
        return ",".join(f"{element:g}" for element in array.tolist())
    return ",".join(str(int(element)) for element in array.tolist())
