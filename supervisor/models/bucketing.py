"""Which sizes a request's inputs are filled up to, for models with the parameter `padding`."""

from __future__ import annotations

from ...ipc import padding
from ...ipc.errors import InvalidArgumentError
from ...ipc.tensor import Tensor
from ..config.schema import ModelConfig
from ..request import InferRequest


class Bucketing:
    """The rules of one model."""

    def __init__(self, rules: padding.Padding, config: ModelConfig) -> None:
        self._model = config.name
        self._axes = rules.axes
        self._inputs = rules.inputs
        self._skip = 1 if config.max_batch_size > 0 else 0

    @classmethod
    def of(cls, config: ModelConfig) -> Bucketing | None:
        """The rules of a configuration that has been checked, None where it has none."""
        given = config.parameters.get(padding.PARAMETER)
        return None if given is None else cls(padding.parse(given.string_value), config)

    def shapes(self, request: InferRequest) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The inputs in the shapes that they will have, without the batch.

        Raises InvalidArgumentError for what is too long, and for tensors that share an axis and are
        not of one length.
        """
        lengths: dict[str, int] = {}
        return tuple(
            (tensor.name, self._shape(request, tensor, lengths)) for tensor in request.inputs
        )

    def _shape(
        self, request: InferRequest, tensor: Tensor, lengths: dict[str, int]
    ) -> tuple[int, ...]:
        shape = tensor.shape[self._skip :]
        rule = self._inputs.get(tensor.name)
        if rule is None:
            return shape
        return tuple(
            extent if axis is None else self._bucket(request, tensor.name, axis, extent, lengths)
            for axis, extent in zip(rule.axes, shape, strict=True)
        )

    def _bucket(
        self, request: InferRequest, name: str, axis: str, extent: int, lengths: dict[str, int]
    ) -> int:
        if lengths.setdefault(axis, extent) != extent:
            raise InvalidArgumentError(
                f"{request.log_prefix}input '{name}' for model '{self._model}' has length {extent} "
                f"along its axis '{axis}', but another input of the request has {lengths[axis]}"
            )
        bucket = self._axes[axis].bucket(extent)
        if bucket is None:
            raise InvalidArgumentError(
                f"{request.log_prefix}input '{name}' for model '{self._model}' has length {extent} "
                f"along its axis '{axis}', expected at most {self._axes[axis].buckets[-1]}, the "
                f"largest bucket of its padding"
            )
        return bucket
