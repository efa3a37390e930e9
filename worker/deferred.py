"""Inputs in clients' memory that are copied when a model looks at them, and not before."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from ..ipc.tensor import Region
from .backend import Array
from .regions import ClientRegion


class Deferred:
    """An input that stands for its array: the copy is made by whoever asks first.

    It can be had until the request has been answered for the last time, like every input.
    """

    __slots__ = ("_array", "_lock", "_place", "_region", "dtype", "shape")

    def __init__(
        self, region: ClientRegion, place: Region, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        self._region = region
        self._place = place
        self._array: Array | None = None
        self._lock = threading.Lock()
        self.dtype = dtype
        self.shape = shape

    def __repr__(self) -> str:
        state = "not read" if self._array is None else "read"
        return f"<Deferred {self.dtype} {list(self.shape)}, {state}>"

    def reshape(self, shape: tuple[int, ...]) -> Deferred:
        """The same elements in another shape, read on their own.

        Raises ValueError when they do not fit into it.
        """
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"cannot reshape {list(self.shape)} into shape {list(shape)}")
        return Deferred(self._region, self._place, self.dtype, shape)

    def array(self) -> Array:
        """The elements, which the model may write to.

        Raises InvalidArgumentError when they are gone.
        """
        with self._lock:
            found = self._array
            if found is None:
                found = self._region.read(self._place).view(self.dtype).reshape(self.shape)
                self._array = found
            return found
