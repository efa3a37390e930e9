"""Rules about inputs and outputs: shapes, reshapes, names, ragged and generated batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .locate import Path
from .problems import Problem, Rule
from .schema import ModelConfig, ModelInput, ModelOutput

_VALUES = "an integer >= 1, or -1 for a dimension of variable size"
_BATCH = "the batch dimension is not part of dims, the server adds it"


def _tensors(config: ModelConfig) -> Iterator[tuple[str, Path, ModelInput | ModelOutput]]:
    """Every input and output with the word for it and its path."""
    for index, tensor in enumerate(config.input):
        yield "input", ("input", index), tensor
    for index, output in enumerate(config.output):
        yield "output", ("output", index), output


def described(config: ModelConfig) -> Iterator[Problem]:
    """Each tensor has a name, a data type and dims."""
    for word, path, tensor in _tensors(config):
        if not tensor.name:
            yield Problem(path, f"model {word} must specify 'name'", "give the tensor its name")
        if tensor.data_type == "TYPE_INVALID":
            yield Problem(
                path,
                f"model {word} must specify 'data_type': '{tensor.name}' has none",
                "write one, for instance data_type: TYPE_FP32",
            )
        if not tensor.dims:
            remedy = "write its shape, for instance dims: [ 3, 224, 224 ]"
            remedy += f"; {_BATCH}" if config.max_batch_size > 0 else ""
            remedy += "; a single element is dims: [ 1 ], with reshape: { shape: [ ] } if need be"
            yield Problem(
                path, f"model {word} must specify 'dims': '{tensor.name}' has none", remedy
            )


def dims(config: ModelConfig) -> Iterator[Problem]:
    """Each dimension is at least 1, or -1."""
    for word, path, tensor in _tensors(config):
        for index, size in enumerate(tensor.dims):
            if size < 1 and size != -1:
                yield Problem(
                    (*path, "dims"),
                    f"model {word} '{tensor.name}' has {size} as dimension {index}",
                    f"write {_VALUES}",
                )


def reshape(config: ModelConfig) -> Iterator[Problem]:
    """A reshape keeps the number of elements, and of variable dimensions."""
    for word, path, tensor in _tensors(config):
        if tensor.reshape is None or not tensor.dims:
            continue
        shape, about = tensor.reshape.shape, f"the reshape of model {word} '{tensor.name}'"
        where = (*path, "reshape")
        wrong = [size for size in shape if size < 1 and size != -1]
        if wrong:
            yield Problem(where, f"{about} has {wrong[0]} as a dimension", f"write {_VALUES}")
        elif not shape and config.max_batch_size == 0:
            yield Problem(
                where,
                f"{about} is empty, but tensors without any dimension need batching",
                "set max_batch_size, or reshape to [ 1 ]",
            )
        elif (complaint := _reshape_mismatch(tensor.dims, shape)) is not None:
            yield Problem(where, f"{about} {complaint}", "let both hold the same elements")


def _reshape_mismatch(before: Sequence[int], after: Sequence[int]) -> str | None:
    """Why one shape cannot become the other; fixed runs between variable dimensions must agree."""
    if before.count(-1) != after.count(-1):
        return (
            f"has {after.count(-1)} variable dimensions where dims has {before.count(-1)}: "
            f"{list(before)} to {list(after)}"
        )
    if _runs(before) != _runs(after):
        return f"does not keep the number of elements: {list(before)} to {list(after)}"
    return None


def _runs(shape: Sequence[int]) -> list[int]:
    """The products of the fixed sizes before, between and after the variable ones."""
    products, start = [1], 0
    for index, size in enumerate(shape):
        if size == -1:
            products[-1] = math.prod(shape[start:index])
            products.append(1)
            start = index + 1
    products[-1] = math.prod(shape[start:])
    return products


def image_format(config: ModelConfig) -> Iterator[Problem]:
    """NHWC and NCHW images have three dims; a fourth is usually the batch dimension."""
    for index, tensor in enumerate(config.input):
        if tensor.format != "FORMAT_NONE" and len(tensor.dims) not in (0, 3):
            batched = config.max_batch_size > 0 and len(tensor.dims) == 4
            yield Problem(
                ("input", index, "dims"),
                f"model input '{tensor.name}' is {tensor.format}, which needs 3 dims, and has "
                f"{len(tensor.dims)}: {tensor.dims}",
                f"write dims: {tensor.dims[1:]}; {_BATCH} as max_batch_size is > 0"
                if batched
                else "write the 3 dims of one image, or leave `format` out",
            )


def tensorrt_only(config: ModelConfig) -> Iterator[Problem]:
    """Shape tensors and non-linear formats exist in TensorRT alone."""
    for word, path, tensor in _tensors(config):
        if tensor.is_shape_tensor and config.platform != "tensorrt_plan":
            yield Problem(
                (*path, "is_shape_tensor"),
                f"model {word} '{tensor.name}' is a shape tensor, which only platform "
                "tensorrt_plan has",
                "leave `is_shape_tensor` out",
            )
        if tensor.is_non_linear_format_io and config.platform != "tensorrt_plan":
            yield Problem(
                (*path, "is_non_linear_format_io"),
                f"model {word} '{tensor.name}' has a non-linear format, which only platform "
                "tensorrt_plan has",
                "leave `is_non_linear_format_io` out",
            )
        elif tensor.is_non_linear_format_io and len(tensor.dims) != 3:
            yield Problem(
                (*path, "dims"),
                f"model {word} '{tensor.name}' has a non-linear format, which needs 3 dims, and "
                f"has {len(tensor.dims)}",
                "write 3 dims",
            )


def ragged(config: ModelConfig) -> Iterator[Problem]:
    """ONNX Runtime cannot leave a ragged input out."""
    for index, tensor in enumerate(config.input):
        if tensor.allow_ragged_batch and tensor.optional and config.backend == "onnxruntime":
            yield Problem(
                ("input", index, "optional"),
                f"model input '{tensor.name}' is both ragged and optional, which ONNX models "
                "cannot have",
                "leave `optional` or `allow_ragged_batch` out",
            )


def unique_inputs(config: ModelConfig) -> Iterator[Problem]:
    """No two inputs have one name, whoever fills them: clients, batches, controls or states."""
    named: list[tuple[str, Path]] = [
        (tensor.name, ("input", index)) for index, tensor in enumerate(config.input)
    ]
    for index, batch in enumerate(config.batch_input):
        named += [(name, ("batch_input", index)) for name in batch.target_name]
    if (sequence := config.sequence_batching) is not None:
        block = "sequence_batching"
        for index, control in enumerate(sequence.control_input):
            named.append((control.name, (block, "control_input", index)))
        for index, state in enumerate(sequence.state):
            named.append((state.input_name, (block, "state", index)))
    yield from _repeated("input", named)


def unique_outputs(config: ModelConfig) -> Iterator[Problem]:
    """No two outputs have one name; a state may share an output's to be visible to clients."""
    yield from _repeated(
        "output", [(tensor.name, ("output", index)) for index, tensor in enumerate(config.output)]
    )
    if (sequence := config.sequence_batching) is not None:
        states: list[tuple[str, Path]] = [
            (state.output_name, ("sequence_batching", "state", index))
            for index, state in enumerate(sequence.state)
        ]
        yield from _repeated("state's output", states)


def _repeated(word: str, named: Sequence[tuple[str, Path]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for name, path in named:
        if name and name in seen:
            yield Problem(path, f"{word} '{name}' is given twice", "give each its own name")
        seen.add(name)


def batch_input(config: ModelConfig) -> Iterator[Problem]:
    """A generated input is made from one input of the model, for at least one target."""
    inputs = {tensor.name for tensor in config.input}
    for index, batch in enumerate(config.batch_input):
        path: Path = ("batch_input", index)
        if len(batch.source_input) != 1:
            yield Problem(
                path,
                f"batch input kind '{batch.kind}' expects 1 source input, got "
                f"{len(batch.source_input)}",
                "name the input that it is computed from",
            )
        for name in batch.source_input:
            if name not in inputs:
                yield Problem(
                    (*path, "source_input"),
                    f"unknown source input name '{name}' of a batch input",
                    f"name one of the model's inputs: {', '.join(sorted(inputs)) or 'none'}",
                )
        if not batch.target_name:
            yield Problem(
                path, "a batch input must specify 'target_name'", "name the tensor it fills"
            )
        if batch.data_type not in ("TYPE_INT32", "TYPE_FP32"):
            yield Problem(
                path,
                f"batch input data type must be TYPE_INT32 or TYPE_FP32, got {batch.data_type}",
                "write one of them as data_type",
            )


def batch_output(config: ModelConfig) -> Iterator[Problem]:
    """A scattered output is an output of the model, cut by the shapes of one of its inputs."""
    inputs = {tensor.name: tensor for tensor in config.input}
    outputs = {tensor.name: tensor for tensor in config.output}
    seen: set[str] = set()
    for index, batch in enumerate(config.batch_output):
        path: Path = ("batch_output", index)
        if len(batch.source_input) != 1:
            yield Problem(
                path,
                f"batch output kind '{batch.kind}' expects 1 source input, got "
                f"{len(batch.source_input)}",
                "name the input whose shapes cut the output",
            )
        for name in batch.source_input:
            if name not in inputs:
                yield Problem(
                    (*path, "source_input"),
                    f"unknown source input name '{name}' of a batch output",
                    f"name one of the model's inputs: {', '.join(sorted(inputs)) or 'none'}",
                )
        if not batch.target_name:
            yield Problem(
                path, "a batch output must specify 'target_name'", "name the output that is cut"
            )
        for name in batch.target_name:
            if name not in outputs:
                yield Problem(
                    (*path, "target_name"),
                    f"unknown target output name '{name}' of a batch output",
                    f"name one of the model's outputs: {', '.join(sorted(outputs)) or 'none'}",
                )
            elif name in seen:
                yield Problem(
                    (*path, "target_name"),
                    f"target output name '{name}' can only be specified once",
                    "keep one of them",
                )
            else:
                source = inputs.get(batch.source_input[0]) if batch.source_input else None
                yield from _cut_by(path, outputs[name], source)
            seen.add(name)


def _cut_by(path: Path, output: ModelOutput, source: ModelInput | None) -> Iterator[Problem]:
    """Each variable dimension of a scattered output has one of the source to be taken from."""
    if source is None:
        return
    wanted, given = _model_dims(output), _model_dims(source)
    if -1 in wanted[len(given) :]:
        yield Problem(
            path,
            f"output '{output.name}' with dims {wanted} cannot be cut by the shapes of input "
            f"'{source.name}', whose dims {given} are fewer",
            "a variable dimension of the output is taken from the same place of the input",
        )


def _model_dims(tensor: ModelInput | ModelOutput) -> list[int]:
    """The dims that the model itself sees."""
    return list(tensor.dims if tensor.reshape is None else tensor.reshape.shape)


def repeated_batch_dimension(config: ModelConfig) -> Iterator[Problem]:
    """Advice: dims of every tensor seem to begin with the batch dimension.

    Whether they do is not to be proven from the configuration: text models have [ -1 ] and
    [ -1, 768 ] quite rightly. So this is never an error here; a backend that knows the model's own
    shapes refuses what does not fit.
    """
    shapes = [tensor.dims for _, _, tensor in _tensors(config)]
    if config.max_batch_size <= 0 or not config.input or not config.output:
        return
    first = {shape[0] if shape else 0 for shape in shapes}
    longer = any(len(tensor.dims) > 1 for tensor in config.input)
    # A leading 1 is common in honest shapes (one channel, one score); it says something only where
    # every tensor has more behind it.
    if first == {1}:
        longer = all(len(shape) > 1 for shape in shapes)
    if not longer or not (first == {-1} or first == {1} or first == {config.max_batch_size}):
        return
    tensor = max(config.input, key=lambda tensor: len(tensor.dims))
    yield Problem(
        ("input", config.input.index(tensor), "dims"),
        f"every input and output begins with dimension {tensor.dims[0]} while max_batch_size is "
        f"{config.max_batch_size}, so clients must send '{tensor.name}' as {[-1, *tensor.dims]}",
        f"if that {tensor.dims[0]} is meant to be the batch, take it out of dims (write "
        f"{tensor.dims[1:]}), or set max_batch_size: 0",
    )


RULES: tuple[Rule, ...] = (
    described,
    dims,
    reshape,
    image_format,
    tensorrt_only,
    ragged,
    unique_inputs,
    unique_outputs,
    batch_input,
    batch_output,
)

ADVICE: tuple[Rule, ...] = (repeated_batch_dimension,)
