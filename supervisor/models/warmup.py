"""From a model's warm-up section to requests.

A sample with batch size N is N requests of one row each, without an id, which are run together.
Its inputs are zeros, random values or the bytes of a file in the model's folder `warmup`. A sample
of a sequence model may name controls and states too; controls that it leaves out say that a
sequence of one request is there, and states are what they are at the start.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import ml_dtypes
import numpy as np

from ...ipc.dtypes import ELEMENT_SIZE, DataType, from_config
from ...ipc.errors import InternalError, InvalidArgumentError
from ...ipc.tensor import Tensor, element_count
from ..config.schema import ModelConfig, ModelWarmup, WarmupInput
from ..request import InferRequest, log_prefix
from ..scheduling.sequence_controls import SequenceControls
from ..workers.warmup import Sample, failed
from .admission import Admission

#: Random integers stay below this: a model that looks something up by them should find it.
_MOST_RANDOM = 2

_FLOATS = {
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
}


def read_samples(config: ModelConfig, version: int, directory: str) -> list[Sample]:
    """All samples of a complete configuration; those with a batch size of 0 are skipped. Blocking.

    Raises InvalidArgumentError for a sample that the model cannot take or whose file is too short,
    and InternalError for a file that cannot be read.
    """
    admission = Admission(config)
    samples: list[Sample] = []
    for sample in config.model_warmup:
        if sample.batch_size < 1:
            continue
        requests = [
            _request(config, version, sample, directory, admission)
            for _ in range(sample.batch_size)
        ]
        samples.append(Sample(sample.name, requests, max(1, sample.count)))
    # As in Triton all samples are prepared before the first one would be run.
    for each in samples:
        if len(each.requests) > max(1, config.max_batch_size):
            raise failed(
                each.name,
                f"batch size {len(each.requests)} for '{config.name}', max allowed is "
                f"{config.max_batch_size}",
            )
    return samples


def _request(
    config: ModelConfig, version: int, sample: ModelWarmup, directory: str, admission: Admission
) -> InferRequest:
    inputs = [
        _tensor(name, found, config, directory) for name, found in sorted(sample.inputs.items())
    ]
    overrides = _overrides(config)
    request = InferRequest(
        config.name, version, [each for each in inputs if each.name not in overrides]
    )
    admission.check(request)
    if overrides:
        given = [each for each in inputs if each.name in overrides]
        told = {each.name for each in given}
        request.inputs += given
        request.inputs += [each for each in _start(config) if each.name not in told]
    return request


def _overrides(config: ModelConfig) -> set[str]:
    """Inputs that clients cannot give and samples can: controls and states of sequences."""
    sequence = config.sequence_batching
    if sequence is None:
        return set()
    controls = {control.name for control in sequence.control_input}
    return controls | {state.input_name for state in sequence.state}


def _start(config: ModelConfig) -> list[Tensor]:
    """What a model is told of a sequence of one request."""
    controls = SequenceControls(config)
    return controls.tensors(controls.as_id(1), start=True, end=True)


def _tensor(name: str, found: WarmupInput, config: ModelConfig, directory: str) -> Tensor:
    if any(extent < 0 for extent in found.dims):
        raise InvalidArgumentError(
            f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
        )
    if (found.zero_data, found.random_data, found.input_data_file) == (None, None, None):
        raise InvalidArgumentError(
            f"{log_prefix('')}warmup setting expects input '{name}' to have input_data_type set"
        )
    shape = (1, *found.dims) if config.max_batch_size else tuple(found.dims)
    try:
        datatype = from_config(found.data_type)
    except ValueError:  # left out: the check at the door says what the model expects
        return Tensor(name, cast("DataType", ""), shape, memoryview(b""))
    data = _data(name, found, datatype, shape, directory)
    return Tensor(name, datatype, shape, memoryview(data))


def _data(
    name: str, found: WarmupInput, datatype: DataType, shape: Sequence[int], directory: str
) -> bytes:
    count = element_count(shape)
    size = ELEMENT_SIZE.get(datatype)
    if found.input_data_file is not None:
        data = _file(name, found.input_data_file, directory)
        if size is None:
            return data
        if len(data) < size * count:
            raise InvalidArgumentError(
                f"{log_prefix('')}warmup setting expects {size * count} bytes, but the "
                f"data provided from {found.input_data_file} only has {len(data)} bytes"
            )
        return data[: size * count]
    if size is None:  # strings without a character, each framed by its length
        return bytes(4 * count)
    if found.zero_data is not None:  # also `false`: which of the three is there decides
        return bytes(size * count)
    return _random(datatype, size, count)


def _random(datatype: DataType, size: int, count: int) -> bytes:
    """Values that every model can take: floats between 0 and 1, integers 0 and 1."""
    generator = np.random.default_rng(count)
    if datatype in _FLOATS:
        return generator.random(count).astype(_FLOATS[datatype]).tobytes()
    values = generator.integers(0, _MOST_RANDOM, count)
    return values.astype(f"<u{size}").tobytes()


def _file(name: str, file: str, directory: str) -> bytes:
    folder = os.path.join(os.path.realpath(directory), "warmup")
    path = os.path.realpath(os.path.join(folder, file))
    if os.path.commonpath((folder, path)) != folder:
        raise InvalidArgumentError(
            f"the file '{file}' of input '{name}' does not lie in the model's folder 'warmup'"
        )
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InternalError(
            f"failed to open text file for read warmup/{file}, of input '{name}': "
            f"{error.strerror or error}"
        ) from None
