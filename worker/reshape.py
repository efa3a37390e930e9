"""The `reshape` of a configuration: clients see one shape of a tensor, the model another.

Pure functions over numpy arrays and shapes. Neither of the two shapes holds the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..ipc.errors import InternalError, InvalidArgumentError
from .backend import Array


class Reshape(NamedTuple):
    """The two shapes of a tensor, both without the batch: the clients' and the graph's."""

    dims: tuple[int, ...]
    shape: tuple[int, ...]


def reshapes(tensors: Iterable[Mapping[str, Any]]) -> dict[str, Reshape]:
    """The tensors that have a `reshape`: for most models none, so that nothing is done below."""
    found: dict[str, Reshape] = {}
    for tensor in tensors:
        reshape = tensor.get("reshape")
        if reshape is not None:
            found[tensor["name"]] = Reshape(tuple(tensor["dims"]), tuple(reshape.get("shape", ())))
    return found


def to_graph_shape(
    inputs: dict[str, Array], found: Mapping[str, Reshape], batching: bool
) -> dict[str, Array]:
    """Give the inputs the shapes that the graph has. Returns `inputs` itself when none differs.

    Raises InvalidArgumentError when an input does not have the elements of its configured shape.
    """
    if not found:
        return inputs
    result = dict(inputs)
    for name, (dims, shape) in found.items():
        array = inputs.get(name)
        if array is not None:
            try:
                result[name] = array.reshape(reshaped(array.shape, dims, shape, batching))
            except ValueError as error:
                raise InvalidArgumentError(f"unable to reshape input '{name}': {error}") from None
    return result


def from_graph_shape(
    outputs: dict[str, Array], found: Mapping[str, Reshape], batching: bool
) -> dict[str, Array]:
    """Give the outputs the shapes that clients see. Returns `outputs` itself when none differs.

    Where the clients' shape is fixed, only the number of elements counts, as in Triton. Where it
    varies, an output that has the clients' shape already (of a python model, say) is left alone.
    Raises InternalError when the graph's output does not have the elements of its configured shape.
    """
    if not found:
        return outputs
    result = dict(outputs)
    for name, reshape in found.items():
        array = outputs.get(name)
        if array is not None:
            try:
                result[name] = array.reshape(_clients_shape(array.shape, reshape, batching))
            except ValueError as error:
                raise InternalError(f"unable to reshape output '{name}': {error}") from None
    return result


def _clients_shape(shape: tuple[int, ...], reshape: Reshape, batching: bool) -> tuple[int, ...]:
    batch = shape[:1] if batching else ()
    if -1 not in reshape.dims:
        return batch + reshape.dims
    own = shape[len(batch) :]
    if not _fits(own, reshape.shape) and _fits(own, reshape.dims):
        return shape
    return reshaped(shape, reshape.shape, reshape.dims, batching)


def _fits(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    return len(shape) == len(dims) and all(
        want in (-1, got) for want, got in zip(dims, shape, strict=True)
    )


def reshaped(
    shape: Sequence[int], source: tuple[int, ...], target: tuple[int, ...], batching: bool
) -> tuple[int, ...]:
    """The shape after a reshape: the batch stays, each -1 of the target takes the source's next -1.

    Raises ValueError when the shape does not have as many dimensions as the source.
    """
    batch = tuple(shape[:1]) if batching else ()
    own = shape[len(batch) :]
    if len(own) != len(source):
        raise ValueError(f"shape {list(shape)} does not have the dimensions {list(source)}")
    variable = iter([got for want, got in zip(source, own, strict=True) if want == -1])
    return batch + tuple(next(variable) if want == -1 else want for want in target)
