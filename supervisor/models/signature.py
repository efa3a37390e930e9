"""What requests must have in common to share a batch: the same inputs, in shapes that join."""

from __future__ import annotations

from collections.abc import Sequence

from ...ipc.tensor import Tensor
from ..config.schema import ModelConfig


class Signature:
    """The rule of one model, for requests that the model can take."""

    def __init__(self, config: ModelConfig) -> None:
        self._skip = 1 if config.max_batch_size > 0 else 0
        #: Inputs whose shape does not matter.
        self._ragged = frozenset(each.name for each in config.input if each.allow_ragged_batch)

    @classmethod
    def of(cls, config: ModelConfig) -> Signature | None:
        """The rule of a configuration, None where all requests are alike."""
        differ = any(-1 in tensor.dims or tensor.optional for tensor in config.input)
        return cls(config) if differ else None

    def of_inputs(self, inputs: Sequence[Tensor]) -> object:
        """Equal for requests that may share a batch."""
        skip, ragged = self._skip, self._ragged
        if not ragged:
            return tuple((tensor.name, tensor.shape[skip:]) for tensor in inputs)
        return tuple(
            (tensor.name, None if tensor.name in ragged else tensor.shape[skip:])
            for tensor in inputs
        )
