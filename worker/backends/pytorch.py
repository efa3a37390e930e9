"""PyTorch: TorchScript, torch.export and AOTInductor files, and modules written in Python.

Beyond Triton, BF16 tensors are served (PyTorch and numpy exchange them as 16-bit integers), and a
TorchScript argument of type Optional[Tensor] may stay away. Unlike Triton, a `runtime: "model.py"`
model is compiled by torch.compile only if TORCH_COMPILE_OPTIONAL_PARAMETERS is given: compilation
takes many seconds and needs a C++ compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ...ipc import dtypes
from ...ipc.errors import InternalError, InvalidArgumentError, NotFoundError, StatusError
from ..backend import Array, Model, TensorBackend
from ..device_tensor import DeviceTensor, as_array
from .pytorch_module import open_module
from .pytorch_naming import Ports, read_ports
from .pytorch_programs import Program, Value, first_line, open_program
from .pytorch_settings import Settings, apply_settings, read_settings

_PYTHON_RUNTIME = "model.py"

_from_numpy: Callable[[Array], torch.Tensor] = cast(Any, torch).from_numpy

_DATATYPES: dict[torch.dtype, str] = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.uint16: "UINT16",
    torch.uint32: "UINT32",
    torch.uint64: "UINT64",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.float32: "FP32",
    torch.float64: "FP64",
    torch.bfloat16: "BF16",
}


class PyTorchBackend(TensorBackend):
    """One PyTorch program, whatever kind of file it came in."""

    writes_inputs = True

    _model: Model
    _settings: Settings
    _program: Program
    _ports: Ports

    def describe(self, model: Model) -> dict[str, Any]:
        """Return the configuration unchanged, for nothing in the file says more than it must.

        Raises InvalidArgumentError with the missing text when inputs or outputs are not listed.
        """
        if model.config.get("input") and model.config.get("output"):
            return model.config
        program = _open(model, read_settings(model))
        raise InvalidArgumentError(_what_to_add(model, *program.suggestion()))

    def load(self, model: Model) -> None:
        """Load the program onto its device and bind it to the tensors of the configuration."""
        self._model = model
        self._ports = read_ports(model)
        for role, ports in (("input", self._ports.inputs), ("output", self._ports.outputs)):
            if not ports:
                raise InvalidArgumentError(
                    f"unable to load model '{model.name}': model configuration must contain at "
                    f"least one {role}, none were specified."
                )
        _check_strings(model)
        self._settings = read_settings(model)
        apply_settings(self._settings, model)
        self._program = _open(model, self._settings)
        self._program.bind(self._ports)

    @property
    def takes_device_tensors(self) -> bool:
        """Whether the program computes on a GPU."""
        device = self._program.device
        return device is not None and device.type == "cuda"

    def unload(self) -> None:
        """Forget the program, so that an AOTInductor package removes what it unpacked."""
        del self._program

    def run(self, inputs: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the program once on the whole batch."""
        values = {name: self._to_torch(name, array) for name, array in inputs.items()}
        try:
            if self._settings.inference_mode:
                with torch.inference_mode():
                    results = self._program.call(values)
            else:
                with torch.no_grad():
                    results = self._program.call(values)
            named = self._program.results(results)
            return {
                port.name: self._left_there(port.name, port.datatype, named[port.name])
                if port.name in self.on_device
                else self._to_numpy(port.name, port.datatype, named[port.name])
                for port in self._ports.outputs
                if port.name in outputs
            }
        except StatusError:
            raise
        except Exception as error:  # the model's own code, which may raise anything
            raise InternalError(f"PyTorch execute failure: {first_line(error)}") from error
        finally:
            if self._settings.cache_cleaning and torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _to_torch(self, name: str, array: Array) -> Value:
        given: object = array
        if isinstance(given, DeviceTensor):
            taken: torch.Tensor = cast(Any, torch).from_dlpack(given).to(self._program.device)
            return taken
        if array.dtype.kind == "O":
            return self._to_strings(name, array)
        if not (array.flags.writeable and array.flags.c_contiguous):
            array = array.copy()
        if array.dtype.kind == "V":  # ml_dtypes.bfloat16, which PyTorch takes from no array
            tensor = _from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = _from_numpy(array)
        device = self._program.device
        return tensor if device is None or device.type == "cpu" else tensor.to(device)

    def _to_strings(self, name: str, array: Array) -> list[str]:
        strings: list[str] = []
        for position, element in enumerate(array.ravel().tolist()):
            try:
                strings.append(element if isinstance(element, str) else bytes(element).decode())
            except UnicodeDecodeError as error:
                raise InvalidArgumentError(
                    f"element {position} of input '{name}' of model '{self._model.name}' is not "
                    "UTF-8 text, which the strings of PyTorch must be"
                ) from error
        return strings

    def _to_numpy(self, name: str, expected: str, result: object) -> Array:
        if isinstance(result, list):
            strings = cast("list[str]", result)
            self._check_datatype(name, expected, "BYTES")
            array = np.empty(len(strings), dtype=np.object_)
            array[:] = [text.encode() for text in strings]
            return array
        tensor = cast(torch.Tensor, result)
        self._check_datatype(name, expected, _DATATYPES.get(tensor.dtype, str(tensor.dtype)))
        if tensor.dim() == 0:
            raise InvalidArgumentError(f"output '{name}' is a scalar which is not supported.")
        tensor = tensor.detach().cpu().contiguous()
        if tensor.dtype is torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(dtypes.numpy_dtype("BF16"))
        return tensor.numpy()

    def _left_there(self, name: str, expected: str, result: object) -> Array:
        """A result whose client wants it on the GPU, where it is if it lies there."""
        if not (isinstance(result, torch.Tensor) and result.is_cuda and result.dim()):
            return self._to_numpy(name, expected, result)
        datatype = _DATATYPES.get(result.dtype, str(result.dtype))
        self._check_datatype(name, expected, datatype)
        kept = result.detach().contiguous()
        device = kept.device.index or 0
        known = cast(dtypes.DataType, datatype)
        return as_array(DeviceTensor(kept.data_ptr(), device, known, tuple(kept.shape), kept))

    def _check_datatype(self, name: str, expected: str, got: str) -> None:
        if got != expected:
            provided = dtypes.to_config(got) if got in dtypes.DATATYPES else got
            raise InvalidArgumentError(
                f"configuration expects datatype {dtypes.to_config(expected)} for output "
                f"'{name}', model provides {provided}"
            )


def _open(model: Model, settings: Settings) -> Program:
    device = _device(model)
    path = _find(model)
    if path.suffix == ".py":
        return open_module(model, path, device, settings.compile)
    return open_program(model, path, device)


def _device(model: Model) -> torch.device | None:
    """Where the instance runs; None leaves it to the file (KIND_MODEL)."""
    instance = model.instance
    if instance.kind == "MODEL":
        return None
    if instance.kind != "GPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidArgumentError(
            f"model '{model.name}': instance '{instance.name}' is to run on a GPU, but PyTorch "
            f"{torch.__version__} sees none; install a CUDA build of torch, or set instance_group "
            "to KIND_CPU"
        )
    return torch.device("cuda", instance.device)


def _find(model: Model) -> Path:
    """The model's file: as configured, or else as Triton names it."""
    folder = Path(model.version_directory)
    named = str(model.config.get("default_model_filename") or "")
    if model.config.get("runtime") == _PYTHON_RUNTIME:
        # Beside a model.py, model.pt is its weights: Triton's default name does not count then.
        names = [named] if named not in ("", "model.pt") else ["model.py", "model.pt"]
    elif named:
        names = [named]
    elif model.config.get("platform") == "torch_aoti":
        names = ["model.pt2"]
    else:
        names = ["model.pt", "model.pt2"]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise NotFoundError(
            f"unable to load model '{model.name}': version {model.version} has no file "
            f"{' or '.join(names)} in {folder}"
        )
    if found.suffix == ".py" and model.config.get("runtime") != _PYTHON_RUNTIME:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}': {found.name} is Python; add "
            'runtime: "model.py" to its configuration'
        )
    return found


def _check_strings(model: Model) -> None:
    """Strings are lists in PyTorch, and a list has one dimension."""
    batched = int(model.config.get("max_batch_size", 0)) > 0
    for entry in model.config.get("input", []):
        if entry.get("data_type") != "TYPE_STRING":
            continue
        reshape = entry.get("reshape")
        dims = entry.get("dims", []) if reshape is None else reshape.get("shape", [])
        if len(dims) + batched > 1:
            raise InvalidArgumentError(
                "Triton only supports 1 dimensional List of String as input for "
                f"'{entry['name']}' for model '{model.name}'"
            )


def _what_to_add(model: Model, inputs: list[str], outputs: list[str]) -> str:
    def block(role: str, names: list[str]) -> str:
        entries = ", ".join(
            f'{{ name: "{name}" data_type: TYPE_FP32 dims: [ -1 ] }}' for name in names
        )
        return f"{role} [ {entries} ]"

    lists = (("input", inputs), ("output", outputs))
    missing = [(role, names) for role, names in lists if not model.config.get(role)]
    roles = " and ".join(f"{role}s" for role, _ in missing)
    text = " ".join(block(role, names) for role, names in missing)
    return (
        f"model '{model.name}', version {model.version}: config.pbtxt must list the {roles}, for "
        "a PyTorch file does not tell their datatypes and shapes; add this, with the datatypes "
        f"and dims of your model: {text}"
    )
