"""What requests must have in common to share a batch: the same inputs, in shapes that join."""

from __future__ import annotations

from ..config.schema import ModelConfig
from ..request import InferRequest
from .bucketing import Bucketing


class Signature:
    """The rule of one model, for requests that the model can take."""

    def __init__(self, config: ModelConfig) -> None:
        self._skip = 1 if config.max_batch_size > 0 else 0
        #: Inputs whose shape does not matter.
        self._ragged = frozenset(each.name for each in config.input if each.allow_ragged_batch)
        self._bucketing = Bucketing.of(config)

    @classmethod
    def of(cls, config: ModelConfig) -> Signature | None:
        """The rule of a configuration, None where all requests are alike."""
        differ = any(-1 in tensor.dims or tensor.optional for tensor in config.input)
        return cls(config) if differ else None

    def of_request(self, request: InferRequest) -> object:
        """Equal for requests that may share a batch.

        Raises InvalidArgumentError for a request whose inputs cannot be padded.
        """
        skip, ragged = self._skip, self._ragged
        if self._bucketing is not None:
            shapes = self._bucketing.shapes(request)
        else:
            shapes = tuple((tensor.name, tensor.shape[skip:]) for tensor in request.inputs)
        if not ragged:
            return shapes
        return tuple((name, None if name in ragged else shape) for name, shape in shapes)
