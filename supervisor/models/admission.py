"""The check at the door: may this request go to this model?

Everything that depends on the configuration alone is worked out once, when the model is loaded; a
request costs one dictionary look-up and a few comparisons for each of its inputs. The rules and the
wording are Triton's, because clients match on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ipc.dtypes import DATATYPES, ELEMENT_SIZE, from_config
from ...ipc.errors import InvalidArgumentError
from ...ipc.tensor import Tensor, element_count
from ..config.schema import ModelConfig
from ..request import InferRequest
from .signature import Signature

_BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim "
    "in your input dims config, try setting max_batch_size to zero. See the model configuration "
    "docs for more info on max_batch_size."
)

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Expected:
    """What an input must be like; `dims` excludes the batch dimension."""

    datatype: str
    element_size: int
    dims: tuple[int, ...]
    optional: bool


class Admission:
    """The rules of one model version."""

    def __init__(self, config: ModelConfig) -> None:
        self._model = config.name
        self._batching = config.max_batch_size > 0
        self._max_batch_size = config.max_batch_size
        self._inputs = {
            tensor.name: _Expected(
                from_config(tensor.data_type),
                ELEMENT_SIZE.get(from_config(tensor.data_type), 0),
                tuple(tensor.dims),
                tensor.optional,
            )
            for tensor in config.input
        }
        self._required = [name for name, found in self._inputs.items() if not found.optional]
        self._outputs = [tensor.name for tensor in config.output]
        self._signature = Signature.of(config)

    def check(self, request: InferRequest) -> None:
        """Refuse a request that the model cannot take; fill in what the scheduler needs to know.

        Raises InvalidArgumentError.
        """
        known = self._inputs
        given = len(request.inputs)
        if given != len(known) or (given > 1 and len({t.name for t in request.inputs}) != given):
            self._check_number(request)
        batch_size = -1
        for tensor in request.inputs:
            expected = known.get(tensor.name)
            if expected is None:
                raise InvalidArgumentError(
                    f"unexpected inference input '{tensor.name}' for model '{self._model}'"
                )
            if tensor.datatype != expected.datatype:
                got = tensor.datatype if tensor.datatype in DATATYPES else "<invalid>"
                raise self._refusal(
                    request,
                    f"inference input '{tensor.name}' data-type is '{got}', but model "
                    f"'{self._model}' expects '{expected.datatype}'",
                )
            rows = self._check_shape(request, tensor, expected)
            if batch_size < 0:
                batch_size = rows
            elif rows != batch_size:
                raise self._unequal_batch(request, tensor)
            self._check_size(request, tensor, expected.element_size)
        if given != len(known):
            self._check_required(request)
        if batch_size > self._max_batch_size and self._batching:
            raise self._too_large(request)
        request.batch_size = max(1, batch_size)
        request.wanted = self._wanted(request)
        if self._signature is not None:
            request.signature = self._signature.of_request(request)

    def _check_shape(self, request: InferRequest, tensor: Tensor, expected: _Expected) -> int:
        """The request's rows of the batch; 1 where the model does not batch."""
        shape = tensor.shape
        if shape and min(shape) < 0:
            raise self._refusal(
                request,
                f"All input dimensions should be specified for input '{tensor.name}' for model "
                f"'{self._model}', got {_shape_text(shape)}",
            )
        if self._batching:
            if not shape:
                raise self._refusal(
                    request,
                    f"input '{tensor.name}' has no shape but model requires batch dimension for "
                    f"'{self._model}'",
                )
            rows, shape = shape[0], shape[1:]
        else:
            rows = 1
        dims = expected.dims
        if shape != dims:
            fits = len(shape) == len(dims) and all(
                want in (-1, got) for want, got in zip(dims, shape, strict=True)
            )
            if not fits:
                others = (each.shape for each in request.inputs)
                if self._batching and any(each and each[0] != rows for each in others):
                    raise self._unequal_batch(request, tensor)
                if self._batching and rows > self._max_batch_size:  # which Triton looks at first
                    raise self._too_large(request)
                raise self._refusal(request, self._shape_message(tensor, expected))
        return rows

    def _unequal_batch(self, request: InferRequest, tensor: Tensor) -> InvalidArgumentError:
        return self._refusal(
            request,
            f"input '{tensor.name}' batch size does not match other inputs for '{self._model}'",
        )

    def _too_large(self, request: InferRequest) -> InvalidArgumentError:
        return self._refusal(
            request,
            f"inference request batch-size must be <= {self._max_batch_size} for '{self._model}'",
        )

    def _check_size(self, request: InferRequest, tensor: Tensor, element_size: int) -> None:
        """The bytes are those of the shape; how many elements BYTES hold, the worker counts."""
        count = element_count(tensor.shape)
        if element_size and element_size * count != tensor.byte_size:
            raise self._refusal(
                request,
                f"input byte size mismatch for input '{tensor.name}' for model '{self._model}'. "
                f"Expected {element_size * count}, got {tensor.byte_size}",
            )
        if not (count and element_size) and not _is_possible(tensor.shape):
            raise self._refusal(
                request,
                f"invalid shape for input '{tensor.name}' for model '{self._model}': shape "
                f"{_shape_text(tensor.shape)} exceeds the maximum size of {_INT64_MAX}",
            )

    def _shape_message(self, tensor: Tensor, expected: _Expected) -> str:
        dims = (-1, *expected.dims) if self._batching else expected.dims
        return (
            f"unexpected shape for input '{tensor.name}' for model '{self._model}'. Expected "
            f"{_shape_text(dims)}, got {_shape_text(tensor.shape)}. "  # the blank is Triton's
            f"{_BATCH_NOTE if self._batching else ''}"
        )

    def _check_number(self, request: InferRequest) -> None:
        """There are neither too many inputs nor too few, and none twice."""
        got = [tensor.name for tensor in request.inputs]
        for name in got:
            if got.count(name) > 1:
                raise self._refusal(request, f"input '{name}' already exists in request")
        if not len(self._required) <= len(got) <= len(self._inputs):
            raise self._wrong_inputs(request)

    def _check_required(self, request: InferRequest) -> None:
        got = {tensor.name for tensor in request.inputs}
        if not got.issuperset(self._required):
            raise self._wrong_inputs(request)

    def _wrong_inputs(self, request: InferRequest) -> InvalidArgumentError:
        got = [tensor.name for tensor in request.inputs]
        missing = [name for name in self._required if name not in got]
        most, least = len(self._inputs), len(self._required)
        number = (
            f"expected {most} inputs but got {len(got)} inputs"
            if most == least
            else f"expected number of inputs between {least} and {most} but got {len(got)} inputs"
        )
        # Triton's own text lacks a bracket where nothing is missing, and clients match on it.
        absent = _names(missing) if missing else "]"
        return self._refusal(
            request,
            f"{number} for model '{self._model}'. Got input(s) {_names(got)}, but missing required "
            f"input(s) {absent}. Please provide all required input(s).",
        )

    def _wanted(self, request: InferRequest) -> list[str]:
        if not request.outputs:
            return self._outputs
        wanted = [output.name for output in request.outputs]
        for name in wanted:
            if name not in self._outputs:
                raise InvalidArgumentError(
                    f"unexpected inference output '{name}' for model '{self._model}'"
                )
        return wanted

    def _refusal(self, request: InferRequest, message: str) -> InvalidArgumentError:
        return InvalidArgumentError(request.log_prefix + message)


def _is_possible(shape: tuple[int, ...]) -> bool:
    """Whether an array can have this shape: even without elements its strides take 64 bits."""
    return element_count(extent for extent in shape if extent) * 8 <= _INT64_MAX


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _names(names: list[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"
