"""Which execution providers an ONNX session gets, from the instance's kind and its accelerators."""

from __future__ import annotations

from collections.abc import Collection

from ...ipc.errors import InvalidArgumentError, UnsupportedError
from ..backend import Model
from .onnx_parameters import entries, int_parameter, parse_bool, parse_int, section

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

#: A provider's name and its options, hashable so that two sessions' settings can be compared.
Provider = tuple[str, tuple[tuple[str, str], ...]]

#: What the tensorrt accelerator understands beside precision_mode: Triton's key, the provider's
#: own key and the kind of value.
_TENSORRT_KEYS: dict[str, tuple[str, str]] = {
    "max_workspace_size_bytes": ("trt_max_workspace_size", "int"),
    "int8_calibration_table_name": ("trt_int8_calibration_table_name", "text"),
    "int8_use_native_calibration_table": ("trt_int8_use_native_calibration_table", "bool"),
} | {
    key: (key, kind)
    for kind, keys in {
        "int": (
            "trt_max_partition_iterations",
            "trt_min_subgraph_size",
            "trt_dla_core",
            "trt_builder_optimization_level",
            "trt_auxiliary_streams",
            "trt_ep_context_embed_mode",
        ),
        "bool": (
            "trt_dla_enable",
            "trt_engine_cache_enable",
            "trt_dump_subgraphs",
            "trt_force_sequential_engine_build",
            "trt_context_memory_sharing_enable",
            "trt_layer_norm_fp32_fallback",
            "trt_timing_cache_enable",
            "trt_force_timing_cache",
            "trt_detailed_build_log",
            "trt_build_heuristics_enable",
            "trt_sparsity_enable",
            "trt_cuda_graph_enable",
            "trt_dump_ep_context_model",
        ),
        "text": (
            "trt_engine_cache_path",
            "trt_engine_cache_prefix",
            "trt_timing_cache_path",
            "trt_tactic_sources",
            "trt_extra_plugin_lib_paths",
            "trt_profile_min_shapes",
            "trt_profile_max_shapes",
            "trt_profile_opt_shapes",
            "trt_ep_context_file_path",
        ),
    }.items()
    for key in keys
}

_PRECISIONS: dict[str, str] = {
    "FP32": "",
    "FP16": "trt_fp16_enable",
    "BF16": "trt_bf16_enable",
    "INT8": "trt_int8_enable",
}

#: Older names of CUDA options among the model's parameters, whose values are numbers.
_CUDA_CHOICES: dict[str, tuple[str, ...]] = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}

_CUDA_BOOLEANS = ("do_copy_in_default_stream", "use_ep_level_unified_stream")


def providers(model: Model, available: Collection[str]) -> tuple[Provider, ...]:
    """The session's providers, best first; `available` are those that this ONNX Runtime has.

    Raises InvalidArgumentError for an accelerator that is unknown, wrongly configured or asked for
    on the wrong kind of instance, UnsupportedError for one that is not installed.
    """
    gpu, cpu = _accelerators(model, "gpu"), _accelerators(model, "cpu")
    found: list[Provider] = []
    on_gpu = model.instance.kind == "GPU"
    if gpu and not on_gpu:
        raise InvalidArgumentError(
            f"model '{model.name}': the execution accelerator '{gpu[0][0]}' needs an instance "
            f"group of KIND_GPU, but instance '{model.instance.name}' is of "
            f"KIND_{model.instance.kind}; remove gpu_execution_accelerator or give the model a GPU"
        )
    if on_gpu:
        device = (("device_id", str(model.instance.device)),)
        cuda: dict[str, str] = {}
        for name, parameters in gpu:
            if name == "tensorrt":
                _require(model, TENSORRT, available)
                found.append((TENSORRT, (*_tensorrt_options(model, parameters), *device)))
            else:
                cuda |= _cuda_options(model, parameters)
        _require(model, CUDA, available)
        cuda |= _older_cuda_options(model)
        cuda.pop("device_id", None)
        found.append((CUDA, (*cuda.items(), *device)))
    if cpu:
        _require(model, OPENVINO, available)
        found.append((OPENVINO, (("device_type", "CPU"),)))
    return (*found, (CPU, ()))


def _accelerators(model: Model, kind: str) -> list[tuple[str, dict[str, str]]]:
    """The accelerators of one kind with their parameters. Raises for a name that is unknown."""
    known = ("cuda", "tensorrt") if kind == "gpu" else ("openvino",)
    message = section(model.config, "optimization", "execution_accelerators")
    listed = entries(message, f"{kind}_execution_accelerator")
    for accelerator in listed:
        if accelerator["name"] not in known:
            raise InvalidArgumentError(
                f"model '{model.name}': unknown Execution Accelerator '{accelerator['name']}' is "
                f"requested; {kind}_execution_accelerator may name {' or '.join(known)}"
            )
    return [(each["name"], dict(each.get("parameters") or {})) for each in listed]


def _require(model: Model, provider: str, available: Collection[str]) -> None:
    if provider in available:
        return
    remedy = {
        CUDA: "run pip uninstall -y onnxruntime, then pip install 'tritonpy-supervisor[gpu]'",
        TENSORRT: "run pip uninstall -y onnxruntime, then pip install 'tritonpy-supervisor[gpu]'",
        OPENVINO: "remove cpu_execution_accelerator, or install an ONNX Runtime built with it",
    }[provider]
    raise UnsupportedError(
        f"model '{model.name}' needs {provider}, which the installed ONNX Runtime does not have "
        f"(it has {', '.join(available)}); {remedy}"
    )


def _tensorrt_options(model: Model, parameters: dict[str, str]) -> list[tuple[str, str]]:
    options: list[tuple[str, str]] = []
    for key, text in parameters.items():
        field = f"parameter '{key}' of the tensorrt Execution Accelerator"
        if key == "precision_mode":
            if text not in _PRECISIONS:
                raise InvalidArgumentError(
                    f"model '{model.name}': unsupported precision mode '{text}' is requested; "
                    f"{field} may be {', '.join(_PRECISIONS)}"
                )
            if _PRECISIONS[text]:
                options.append((_PRECISIONS[text], "1"))
            continue
        if key not in _TENSORRT_KEYS:
            raise InvalidArgumentError(
                f"model '{model.name}': unknown parameter '{key}' is provided for TensorRT "
                f"Execution Accelerator"
            )
        name, kind = _TENSORRT_KEYS[key]
        if kind == "int":
            parse_int(model, field, text)
        elif kind == "bool":
            text = str(int(parse_bool(model, field, text)))
        if text:
            options.append((name, text))
    return options


def _cuda_options(model: Model, parameters: dict[str, str]) -> dict[str, str]:
    """The options of the cuda accelerator: any that the provider has, under its own names."""
    options = {key: text for key, text in parameters.items() if text}
    for key in _CUDA_BOOLEANS:
        if key in options:
            field = f"parameter '{key}' of the cuda Execution Accelerator"
            options[key] = str(int(parse_bool(model, field, options[key])))
    return options


def _older_cuda_options(model: Model) -> dict[str, str]:
    """The CUDA options that older configurations have among the model's own parameters."""
    options: dict[str, str] = {}
    for key, choices in _CUDA_CHOICES.items():
        chosen = int_parameter(model, key)
        if chosen is None:
            continue
        if not 0 <= chosen < len(choices):
            raise InvalidArgumentError(
                f"model '{model.name}': unsupported {key} value '{chosen}' is requested; parameter "
                f"'{key}' may be 0 to {len(choices) - 1}"
            )
        options[key] = choices[chosen]
    limit = int_parameter(model, "gpu_mem_limit")
    if limit is not None:
        options["gpu_mem_limit"] = str(limit)
    stream = model.parameter("do_copy_in_default_stream")
    if stream is not None:
        field = "parameter 'do_copy_in_default_stream'"
        options["do_copy_in_default_stream"] = str(int(parse_bool(model, field, stream)))
    return options
