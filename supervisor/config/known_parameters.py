"""The `parameters` of a configuration that mean something, and what is likely meant by others."""

from __future__ import annotations

import difflib

from ...ipc.backend_names import BUILT_IN
from .labels import PARAMETER as LABELS
from .residency import PARAMETER as RESIDENCY
from .schema import ModelConfig

#: Whatever runs the model.
_COMMON = frozenset({LABELS, RESIDENCY, "traffic"})

_KNOWN: dict[str, frozenset[str]] = {
    "onnxruntime": frozenset({
        "padding", "intra_op_thread_count", "inter_op_thread_count", "execution_mode",
        "enable_mem_arena", "enable_mem_pattern", "memory.enable_memory_arena_shrinkage",
        "session.use_device_allocator_for_initializers", "cudnn_conv_algo_search",
        "arena_extend_strategy", "gpu_mem_limit", "do_copy_in_default_stream",
    }),
    "pytorch": frozenset({
        "padding", "INTRA_OP_THREAD_COUNT", "NUM_THREADS", "INTER_OP_THREAD_COUNT",
        "NUM_INTEROP_THREADS", "INFERENCE_MODE", "DISABLE_OPTIMIZED_EXECUTION", "DISABLE_CUDNN",
        "ENABLE_JIT_EXECUTOR", "ENABLE_JIT_PROFILING", "ENABLE_TENSOR_FUSER",
        "ENABLE_CACHE_CLEANING", "ENABLE_WEIGHT_SHARING", "TORCH_COMPILE_OPTIONAL_PARAMETERS",
    }),
    "python": frozenset({
        "FORCE_CPU_ONLY_INPUT_TENSORS", "EXECUTION_ENV_PATH", "EXECUTION_ENV_PYTHON",
        "max_concurrent_executions",
    }),
    "identity": frozenset({
        "creation_delay_sec", "execute_delay_ms", "instance_wise_delay_multiplier",
    }),
    "repeat": frozenset(),
    "square": frozenset({
        "CUSTOM_INFER_DELAY_NS", "CUSTOM_OUTPUT_DELAY_NS", "CUSTOM_FAIL_COUNT",
        "CUSTOM_EMPTY_COUNT",
    }),
}  # fmt: skip

#: How much a name must be like a known one to be taken for it.
_LIKENESS = 0.85


def known(backend: str) -> frozenset[str]:
    """The parameters that have a meaning for a backend that is built in, or for none: an ensemble.

    A model in Python may have any others of its own.
    """
    return _COMMON | _KNOWN.get(backend, frozenset())


def doubts(config: ModelConfig) -> dict[str, str]:
    """The parameters that likely mean nothing, each with a sentence about it."""
    backend = config.backend
    if backend not in BUILT_IN and config.runtime.endswith(".py"):
        backend = "python"
    is_open = backend == "python" or backend not in {*BUILT_IN, ""}
    names = known(backend)
    found: dict[str, str] = {}
    for name in config.parameters:
        if name in names:
            continue
        near = _near(name, names)
        if near is not None:
            found[name] = f"parameter '{name}' is not known: did you mean '{near}'?"
        elif not is_open:
            whose = f"the backend '{backend}'" if backend else "an ensemble"
            found[name] = f"parameter '{name}' means nothing to {whose}, and has no effect"
    return found


def _near(name: str, names: frozenset[str]) -> str | None:
    folded = {known.lower().replace("-", "_"): known for known in sorted(names)}
    word = name.lower().replace("-", "_")
    near = difflib.get_close_matches(word, list(folded), 1, _LIKENESS)
    return folded[near[0]] if near else None
