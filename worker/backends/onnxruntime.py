"""ONNX models on ONNX Runtime: one session an instance."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from ...ipc.dtypes import DataType, numpy_dtype
from ...ipc.errors import InternalError, UnsupportedError
from ..backend import Array, Model, TensorBackend
from ..device_tensor import DeviceTensor, as_array
from . import onnx_bfloat16 as bfloat16
from .onnx_parameters import entries
from .onnx_providers import CPU, CUDA
from .onnx_settings import SessionSettings, session_settings
from .onnx_signature import Signature, check, complete, is_complete, read_tensors
from .onnx_strings import to_strings

# The library reports its use to its maker from the first session on, unless told not to before it
# is imported. An operator who wants that has the variable set to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The library has no type information, so it is imported as a value.
_ort: Any = import_module("onnxruntime")
if not hasattr(_ort, "InferenceSession"):
    # What is left when one of the two wheels was uninstalled and both had been installed.
    raise ImportError("the module 'onnxruntime' is there, but empty")

_STATE: dict[str, object] = vars(import_module("onnxruntime.capi.onnxruntime_pybind11_state"))

#: ONNX Runtime's own exceptions derive from Exception and have no common class; its Python layer
#: and its bindings raise the built-in ones.
_ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    *(each for each in _STATE.values() if isinstance(each, type) and issubclass(each, Exception)),
)

#: Where a model that is given as bytes has the files of its weights.
_EXTERNAL_DATA_FOLDER = "session.model_external_initializers_file_folder_path"

#: The library's word for the GPU that an instance sees.
_DEVICE = "cuda"

_ERROR_TEXT = re.compile(r"\[ONNXRuntimeError\] : (\d+) : \w+ : (.*)", re.DOTALL)


class OnnxRuntimeBackend(TensorBackend):
    """Runs model.onnx, a file or a folder with external data."""

    pure = True

    def __init__(self) -> None:
        self._model = ""
        self._session: Any = None
        self._settings: SessionSettings | None = None
        self._run_options: Any = None
        self._strings: frozenset[str] = frozenset()
        self._scalars: frozenset[str] = frozenset()
        #: What stands in the graph, as a session told before it got companions of outputs.
        self._signature = Signature({}, {}, {})
        self._run: Callable[[dict[str, Array], Sequence[str]], list[Array]] = self._run_plainly
        self._output_datatypes: dict[str, DataType] = {}
        #: The shapes to give scalar outputs, because no configuration can have an empty one.
        self._scalar_outputs: dict[str, tuple[int, ...]] = {}

    def describe(self, model: Model) -> dict[str, Any]:
        """Complete the configuration where inputs or outputs are missing."""
        if is_complete(model.config):
            return model.config
        self._open(model)
        return complete(model, self._signature)

    def load(self, model: Model) -> None:
        """Open the session and check that the configuration fits the graph."""
        self._open(model)
        signature = self._signature
        check(model, signature)
        inputs = {**signature.inputs, **signature.optional}
        self._model = model.name
        self._strings = frozenset(n for n, each in inputs.items() if each.datatype == "BYTES")
        self._scalars = frozenset(n for n, each in inputs.items() if not each.dims)
        if any(each.datatype == "BF16" for each in [*inputs.values(), *signature.outputs.values()]):
            self._run = self._run_with_both if self._strings else self._run_on_values
        elif self._settings is not None and self._settings.providers[0][0] == CUDA:
            self._run = self._run_where_they_lie
        self._output_datatypes = {
            name: cast(DataType, each.datatype) for name, each in signature.outputs.items()
        }
        self._scalar_outputs = {
            entry["name"]: (1,) * len(entry["dims"])
            for entry in entries(model.config, "output")
            if not signature.outputs[entry["name"]].dims and entry.get("reshape") is None
        }

    @property
    def takes_device_tensors(self) -> bool:
        """Whether the graph computes on a GPU, without BF16, which the bindings do not know."""
        return self._run == self._run_where_they_lie

    def unload(self) -> None:
        """Drop the session."""
        self._session = None
        self._settings = None

    def run(self, inputs: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Compute the named outputs. Strings come out as an object array of str.

        Raises InvalidArgumentError for strings that cannot be passed, InternalError when it fails.
        """
        feeds = inputs
        if self._strings or self._scalars:
            feeds = {name: self._prepared(name, array) for name, array in inputs.items()}
        try:
            values = self._run(feeds, outputs)
        except _ORT_ERRORS as error:
            raise _failure(error) from error
        results: dict[str, Array] = dict(zip(outputs, values, strict=True))
        for name, shape in self._scalar_outputs.items():
            if name in results and results[name].ndim == 0:
                results[name] = results[name].reshape(shape)
        return results

    # --- tensors ----------------------------------------------------------------------------------

    def _prepared(self, name: str, array: Array) -> Array:
        if name in self._strings:
            array = to_strings(self._model, name, array)
        if name in self._scalars and array.size == 1:
            array = array.reshape(())
        return array

    def _run_plainly(self, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
        # Cheaper than binding: measured 4 µs against 6 µs for a small model.
        values: list[Array] = self._session.run(outputs, feeds, self._run_options)
        return values

    def _run_where_they_lie(self, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run with inputs where they lie, and leave outputs there whose clients want them there."""
        given: Mapping[str, object] = feeds
        on_gpu = any(isinstance(each, DeviceTensor) for each in given.values())
        if not (on_gpu or self.on_device):
            return self._run_plainly(feeds, outputs)
        binding = self._session.io_binding()
        for name, each in given.items():
            if isinstance(each, DeviceTensor):
                binding.bind_input(name, _DEVICE, each.device, each.dtype, each.shape, each.address)
            else:
                # Not bind_cpu_input, which does not know optional inputs.
                value = _ort.OrtValue.ortvalue_from_numpy(each)
                binding.bind_ortvalue_input(name, value)
        for name in outputs:
            if name in self.on_device:
                binding.bind_output(name, _DEVICE)
            else:
                binding.bind_output(name)
        self._session.run_with_iobinding(binding, self._run_options)
        return [
            self._left_there(name, value) if name in self.on_device else value.numpy()
            for name, value in zip(outputs, binding.get_outputs(), strict=True)
        ]

    def _left_there(self, name: str, value: Any) -> Array:
        shape = tuple(value.shape())
        datatype = self._output_datatypes[name]
        return as_array(DeviceTensor(value.data_ptr(), 0, datatype, shape, value))

    def _run_on_values(self, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run a model with BF16 tensors and no strings among its inputs."""
        values = {name: bfloat16.to_value(array) for name, array in feeds.items()}
        results = self._session.run_with_ort_values(outputs, values, self._run_options)
        return [bfloat16.from_value(value) for value in results]

    def _run_with_both(self, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run a model with BF16 tensors and strings; its BF16 outputs are read in FP32."""
        bf16 = numpy_dtype("BF16")
        mixed = {
            name: bfloat16.to_value(array) if array.dtype == bf16 else array
            for name, array in feeds.items()
        }
        narrow = [self._signature.outputs[name].datatype == "BF16" for name in outputs]
        names = [
            bfloat16.companion(name) if is_narrow else name
            for name, is_narrow in zip(outputs, narrow, strict=True)
        ]
        values: list[Array] = self._session.run(names, mixed, self._run_options)
        return [
            value.astype(bf16) if is_narrow else value
            for value, is_narrow in zip(values, narrow, strict=True)
        ]

    # --- session ----------------------------------------------------------------------------------

    def _open(self, model: Model) -> None:
        """Make the session, unless the one made to describe the model is as good."""
        settings = session_settings(model, _ort.get_available_providers())
        if settings == self._settings:
            return
        if settings.providers[0][0] != CPU:
            _ort.preload_dlls()  # of CUDA and cuDNN, from their wheels
        self._session = _new_session(model, settings, settings.path)
        _check_providers(model, settings, self._session.get_providers())
        self._signature = signature = Signature(
            read_tensors(self._session.get_inputs()),
            read_tensors(self._session.get_overridable_initializers()),
            read_tensors(self._session.get_outputs()),
        )
        inputs = [*signature.inputs.values(), *signature.optional.values()]
        narrow = [name for name, each in signature.outputs.items() if each.datatype == "BF16"]
        if narrow and any(each.datatype == "BYTES" for each in inputs):
            graph = bfloat16.with_companions(Path(settings.path).read_bytes(), narrow)
            self._session = _new_session(model, settings, graph)
        self._run_options = None
        if settings.run_entries:
            self._run_options = _ort.RunOptions()
            for key, value in settings.run_entries:
                self._run_options.add_run_config_entry(key, value)
        self._settings = settings


def _new_session(model: Model, settings: SessionSettings, graph: str | bytes) -> Any:
    """A session of a file, or of what has been read from the settings' file."""
    try:
        options = _session_options(settings)
        if isinstance(graph, bytes):
            folder = str(Path(settings.path).parent)
            options.add_session_config_entry(_EXTERNAL_DATA_FOLDER, folder)
        return _ort.InferenceSession(
            graph,
            options,
            providers=[(name, dict(given)) for name, given in settings.providers],
            enable_fallback=0,
        )
    except _ORT_ERRORS as error:
        raise _failure(error, f"unable to load model '{model.name}': ") from error


def _session_options(settings: SessionSettings) -> Any:
    options = _ort.SessionOptions()
    options.graph_optimization_level = getattr(_ort.GraphOptimizationLevel, settings.graph_level)
    if settings.parallel:
        options.execution_mode = _ort.ExecutionMode.ORT_PARALLEL
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = settings.inter_op_threads
    if settings.mem_arena is not None:
        options.enable_cpu_mem_arena = settings.mem_arena
    if settings.mem_pattern is not None:
        options.enable_mem_pattern = settings.mem_pattern
    for key, value in settings.session_entries:
        options.add_session_config_entry(key, value)
    for library in settings.op_libraries:
        options.register_custom_ops_library(library)
    return options


def _check_providers(model: Model, settings: SessionSettings, got: Sequence[str]) -> None:
    """Raise when the library left out a provider, as it does with one that fails to load.

    It would run the whole model on the CPU then, and say so only on its standard error.
    """
    asked = [name for name, _ in settings.providers]
    missing = [name for name in asked if name not in got]
    if missing or got[0] != asked[0]:
        raise UnsupportedError(
            f"unable to load model '{model.name}': instance '{model.instance.name}' needs "
            f"{', '.join(missing or asked)}, but ONNX Runtime could only use {', '.join(got)} on "
            f"this machine; the server's log holds the library's own message"
        )


def _failure(error: Exception, prefix: str = "") -> InternalError:
    """What ONNX Runtime reports, in Triton's words; 1 is the library's code for a plain failure."""
    found = _ERROR_TEXT.search(str(error))
    code, text = found.groups() if found else ("1", str(error))
    return InternalError(f"{prefix}onnx runtime error {code}: {text}")
