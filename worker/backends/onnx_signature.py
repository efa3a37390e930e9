"""What tensors an ONNX graph has; complete a configuration from them, or check it against them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ...ipc import padding
from ...ipc.dtypes import DataType, to_config
from ...ipc.errors import InternalError, InvalidArgumentError, UnsupportedError
from ..backend import Model
from .onnx_parameters import entries, parse_int, section

_log = logging.getLogger(__name__)

_DATATYPES: dict[str, DataType] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
    "tensor(bfloat16)": "BF16",
}

_ONNX_TYPES = {
    "seq": "ONNX_TYPE_SEQUENCE",
    "map": "ONNX_TYPE_MAP",
    "sparse_tensor": "ONNX_TYPE_SPARSETENSOR",
    "opaque": "ONNX_TYPE_OPAQUE",
    "optional": "ONNX_TYPE_OPTIONAL",
}


class NodeArg(Protocol):
    """What ONNX Runtime tells about an input or an output."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> list[int | str | None]: ...


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of the graph. `dims` is the whole shape, -1 where it varies, empty for a scalar.

    `datatype` is None for an element type that Triton does not have.
    """

    name: str
    datatype: DataType | None
    onnx_type: str
    dims: tuple[int, ...]

    @property
    def config_type(self) -> str:
        """The datatype as a configuration writes it, TYPE_INVALID where there is none."""
        return "TYPE_INVALID" if self.datatype is None else to_config(self.datatype)


@dataclass(frozen=True, slots=True)
class Signature:
    """The tensors of a graph: required inputs, optional ones (initializers), and outputs."""

    inputs: dict[str, TensorInfo]
    optional: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


def read_tensors(args: Iterable[NodeArg]) -> dict[str, TensorInfo]:
    """The tensors among these nodes by name; raises UnsupportedError for sequences and maps."""
    found: dict[str, TensorInfo] = {}
    for arg in args:
        kind = arg.type.partition("(")[0]
        if kind != "tensor":
            raise UnsupportedError(
                f"Unsupported ONNX Type '{_ONNX_TYPES.get(kind, 'ONNX_TYPE_UNKNOWN')}' for I/O "
                f"'{arg.name}', expected 'ONNX_TYPE_TENSOR'."
            )
        dims = tuple(dim if isinstance(dim, int) else -1 for dim in arg.shape)
        found[arg.name] = TensorInfo(arg.name, _DATATYPES.get(arg.type), arg.type, dims)
    return found


# --- completing a configuration -------------------------------------------------------------------


def is_complete(config: Mapping[str, Any]) -> bool:
    """Whether the configuration lists inputs and outputs, and so is left as it is."""
    inputs = config.get("input") or config.get("batch_input")
    return bool(inputs) and bool(config.get("output"))


def complete(model: Model, signature: Signature) -> dict[str, Any]:
    """Fill in the batch size, a scheduler for it, and whichever of inputs and outputs is missing.

    Batching is detected from the graph: the first dimension of every input and output varies.
    Raises InvalidArgumentError when the configuration wants batching and the graph has none.
    """
    config = dict(model.config)
    infos = [*signature.inputs.values(), *signature.outputs.values()]
    size = int(config.get("max_batch_size") or 0)
    if all(info.dims[:1] == (-1,) for info in infos):
        if size == 0:
            text = model.backend_config.get("default-max-batch-size", "4")
            size = max(0, parse_int(model, "--backend-config default-max-batch-size", text))
            _log.warning(
                "autofilled max_batch_size to %d for model '%s' since batching is supported but no "
                "max_batch_size is specified in model configuration",
                size,
                model.name,
            )
        config["max_batch_size"] = size
        schedulers = ("dynamic_batching", "sequence_batching")
        if size > 1 and all(config.get(name) is None for name in schedulers):
            config["dynamic_batching"] = {}
    elif size != 0:
        raise InvalidArgumentError(
            f"autofill failed for model '{model.name}': model does not support batching while "
            f"non-zero max_batch_size is specified"
        )
    inputs, outputs = _of_sequences(config)
    inputs |= {made.name for made in _padding_inputs(config)}
    if not config.get("input") and not config.get("batch_input"):
        config["input"] = [
            _described(model, each, size)
            for each in signature.inputs.values()
            if each.name not in inputs
        ]
    if not config.get("output"):
        config["output"] = [
            _described(model, each, size)
            for each in signature.outputs.values()
            if each.name not in outputs
        ]
    return config


def _of_sequences(config: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The inputs and outputs that are not the client's: controls and states."""
    sequence = section(config, "sequence_batching")
    states = entries(sequence, "state")
    controls = {entry["name"] for entry in entries(sequence, "control_input")}
    return (
        controls | {state["input_name"] for state in states},
        {state["output_name"] for state in states},
    )


def _described(model: Model, info: TensorInfo, max_batch_size: int) -> dict[str, Any]:
    if info.datatype is None:
        raise UnsupportedError(
            f"autofill failed for model '{model.name}': tensor '{info.name}' is a "
            f"{info.onnx_type}, which has no Triton datatype"
        )
    dims = list(info.dims[1:] if max_batch_size > 0 else info.dims)
    entry: dict[str, Any] = {"name": info.name, "data_type": info.config_type, "dims": dims or [1]}
    if not dims and max_batch_size > 0:
        entry["reshape"] = {"shape": []}
    return entry


# --- checking a configuration ---------------------------------------------------------------------


def check(model: Model, signature: Signature) -> None:
    """Raise InvalidArgumentError for the first thing in which configuration and graph disagree."""
    config = model.config
    inputs = entries(config, "input")
    controls = _check_controls(model, signature)
    states = entries(section(config, "sequence_batching"), "state")
    expected = (
        sum(1 for each in inputs if not each.get("optional"))
        + sum(len(each["target_name"]) for each in entries(config, "batch_input"))
        + len(_padding_inputs(config))
        + controls
        + len(states)
    )
    if expected != len(signature.inputs):
        raise InvalidArgumentError(
            f"unable to load model '{model.name}', configuration expects {expected} inputs, model "
            f"provides {len(signature.inputs)} ({', '.join(sorted(signature.inputs)) or 'none'})"
        )
    for entry in inputs:
        _check_input(model, entry, signature)
    for entry in entries(config, "batch_input"):
        _check_generated(model, entry, signature)
    for made in _padding_inputs(config):
        found = _find(model, "input", made.name, signature.inputs)
        named = {"name": made.name, "data_type": made.data_type}
        _check_datatype(model, "padding input", named, found)
    scattered = {name for each in entries(config, "batch_output") for name in each["target_name"]}
    for entry in entries(config, "output"):
        info = _find(model, "output", entry["name"], signature.outputs)
        _check_datatype(model, "output", entry, info)
        if entry["name"] not in scattered:
            _check_dims(model, entry, info, exact=True)
    for state in states:
        info = _find(model, "input", state["input_name"], signature.inputs)
        _check_datatype(model, "input state", {**state, "name": state["input_name"]}, info)
        _check_dims(model, state, info, exact=False)
        info = _find(model, "output", state["output_name"], signature.outputs)
        _check_datatype(model, "output state", {**state, "name": state["output_name"]}, info)


def _check_input(model: Model, entry: dict[str, Any], signature: Signature) -> None:
    name = entry["name"]
    optional, ragged = bool(entry.get("optional")), bool(entry.get("allow_ragged_batch"))
    if optional and model.config.get("max_batch_size"):
        raise InvalidArgumentError(
            f"unable to load model '{model.name}', optional input '{name}' is not supported for "
            f"models that support batching"
        )
    info = _find(model, "input", name, {**signature.inputs, **signature.optional})
    _check_datatype(model, "input", entry, info)
    if not ragged:
        _check_dims(model, entry, info, exact=False)
        return
    ragged_shape = "configuration expects model provides input with shape [-1] for ragged input"
    if optional:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}', {ragged_shape} '{name}', which is not supported "
            f"for optional input"
        )
    if info.dims != (-1,):
        raise InvalidArgumentError(
            f"unable to load model '{model.name}', {ragged_shape} '{name}', model provides "
            f"{_shape(info.dims)}"
        )


def _padding_inputs(config: Mapping[str, Any]) -> list[padding.Generated]:
    """The masks and lengths that the graph gets of the parameter `padding`."""
    rules = padding.of_parameters(config.get("parameters") or {})
    return [] if rules is None else rules.generated


def _check_generated(model: Model, entry: Mapping[str, Any], signature: Signature) -> None:
    """A generated input has the datatype that is configured, and as many dimensions as its kind."""
    rank = 2 if entry.get("kind") == "BATCH_ITEM_SHAPE" else 1
    for name in entry["target_name"]:
        info = _find(model, "input", name, signature.inputs)
        _check_datatype(model, "batch input", {**entry, "name": name}, info)
        if len(info.dims) != rank:
            raise InvalidArgumentError(
                f"unable to load model '{model.name}', batch input '{name}' of kind "
                f"{entry.get('kind', 'BATCH_ELEMENT_COUNT')} has {rank} "
                f"dimension{'s' * (rank > 1)}, model provides {_shape(info.dims)}"
            )


def _find(model: Model, side: str, name: str, infos: Mapping[str, TensorInfo]) -> TensorInfo:
    info = infos.get(name)
    if info is None:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}', unexpected inference {side} '{name}', allowed "
            f"{side}s are: {', '.join(sorted(infos))}"
        )
    return info


def _check_datatype(model: Model, side: str, entry: Mapping[str, Any], info: TensorInfo) -> None:
    if entry["data_type"] != info.config_type:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}', configuration expects datatype "
            f"{entry['data_type']} for {side} '{entry['name']}', model provides {info.config_type}"
        )


def _check_dims(model: Model, entry: dict[str, Any], info: TensorInfo, exact: bool) -> None:
    """Compare the configured dims with the graph's; `exact` also where the graph's vary."""
    reshape = entry.get("reshape")
    dims = tuple(entry["dims"] if reshape is None else reshape.get("shape", ()))
    tensor = f"model '{model.name}', tensor '{info.name}'"
    if not info.dims:
        if any(dim != 1 for dim in dims):
            raise InvalidArgumentError(
                f"unable to load model '{model.name}', scalar tensor '{info.name}', should only "
                f"provide 1 in the model configuration when the model doesn't support batching. "
                f"Model configuration provided: {_shape(dims)}."
            )
        return
    batching = int(model.config.get("max_batch_size") or 0) > 0
    if batching and info.dims[0] != -1:
        raise InvalidArgumentError(
            f"{tensor}: for the model to support batching the shape should have at least 1 "
            f"dimension and the first dimension must be -1; but shape expected by the model is "
            f"{_shape(info.dims)}"
        )
    full = (-1, *dims) if batching else dims
    if len(full) == len(info.dims) and all(
        graph == own or (graph == -1 and not exact)
        for graph, own in zip(info.dims, full, strict=True)
    ):
        return
    because = (
        "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor "
        "shape, making complete shape"
        if batching
        else "shape"
    )
    remedy = (
        f"; leave the batch dimension out of 'dims': {_shape(dims[1:])}"
        if batching and len(dims) == len(info.dims)
        else ""
    )
    raise InvalidArgumentError(
        f"{tensor}: the model expects {len(info.dims)} dimensions (shape {_shape(info.dims)}) but "
        f"the model configuration specifies {len(full)} dimensions ({because} {_shape(full)})"
        f"{remedy}"
    )


def _check_controls(model: Model, signature: Signature) -> int:
    """Check the inputs that a sequence scheduler fills in, and count them."""
    count = 0
    skip = 1 if model.config.get("max_batch_size") else 0
    for entry in entries(section(model.config, "sequence_batching"), "control_input"):
        for control in entries(entry, "control"):
            count += 1
            name = entry["name"]
            info = signature.inputs.get(name)
            if info is None:
                raise InternalError(
                    f"model '{model.name}': configuration specified sequence control '{name}', but "
                    f"model does not provide that input"
                )
            problem = f"unable to load model '{model.name}', sequence control '{name}'"
            if info.dims[skip:] != (1,):
                raise InvalidArgumentError(
                    f"{problem} in model has dims {_shape(info.dims[skip:])} but dims [1] is "
                    f"expected"
                )
            data_type = _control_type(control)
            if data_type != info.config_type:
                raise InvalidArgumentError(
                    f"{problem}, the model expects data-type {info.config_type} but the model "
                    f"configuration specifies data-type {data_type}"
                )
    return count


def _control_type(control: Mapping[str, Any]) -> str:
    for kind in ("int32", "fp32", "bool"):
        if control.get(f"{kind}_false_true"):
            return f"TYPE_{kind.upper()}"
    return str(control.get("data_type"))


def _shape(dims: Iterable[int]) -> str:
    return f"[{','.join(str(dim) for dim in dims)}]"
