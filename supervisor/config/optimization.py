"""The optimisation section of a model's configuration, as typed structs (see schema.py)."""

from __future__ import annotations

import msgspec


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """How far the framework may optimise the graph."""

    level: int = 0


class GraphShape(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of one input of a CUDA graph."""

    dim: list[int] = []


class LowerBound(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest batch and shapes that a CUDA graph serves."""

    batch_size: int = 0
    input: dict[str, GraphShape] = {}


class GraphSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A CUDA graph to capture."""

    batch_size: int = 0
    input: dict[str, GraphShape] = {}
    graph_lower_bound: LowerBound | None = None


class Cuda(msgspec.Struct, frozen=True, kw_only=True):
    """CUDA-specific optimisation."""

    graphs: bool = False
    busy_wait_events: bool = False
    graph_spec: list[GraphSpec] = []
    output_copy_stream: bool = False


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """An execution accelerator (`tensorrt`, `cuda`, `openvino`, ...) and its settings."""

    name: str = ""
    parameters: dict[str, str] = {}


class ExecutionAccelerators(msgspec.Struct, frozen=True, kw_only=True):
    """The accelerators to try, in order, on a GPU and on the CPU."""

    gpu_execution_accelerator: list[Accelerator] = []
    cpu_execution_accelerator: list[Accelerator] = []


class PinnedMemoryBuffer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether tensors are staged in page-locked memory."""

    enable: bool = False


class ModelOptimizationPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the model is made faster."""

    graph: Graph | None = None
    priority: str = "PRIORITY_DEFAULT"
    cuda: Cuda | None = None
    execution_accelerators: ExecutionAccelerators | None = None
    input_pinned_memory: PinnedMemoryBuffer | None = None
    output_pinned_memory: PinnedMemoryBuffer | None = None
    gather_kernel_buffer_threshold: int = 0
    eager_batching: bool = False
