"""The four kinds of PyTorch program that can be served, behind one interface.

A file is told by its content, not by its ending: TorchScript, a torch.export program and an
AOTInductor package are all zip archives. The fourth kind is a Python file with an nn.Module.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile, ZipFile

import torch
from torch.utils import _pytree as pytree

from ...ipc.errors import InvalidArgumentError
from ..backend import Model
from .pytorch_naming import Port, Ports, by_path, by_rules, check_positions, leaf_paths

#: What a program takes and gives: a tensor, or a list of strings for a BYTES tensor. None stands
#: for an optional input that is absent.
Value = torch.Tensor | list[str] | None

#: What forward of a TorchScript file may take.
_ARGUMENT_TYPES = ("Tensor", "List[str]", "Optional[Tensor]", "Optional[List[str]]")


class Program(ABC):
    """A loaded program, with the names of the configuration bound to its arguments and results.

    `device` is where its inputs must be; None leaves them where they are.
    """

    def __init__(self, model: Model, device: torch.device | None) -> None:
        self._model = model
        self.device = device
        self._inputs: list[tuple[str, int]] = []
        self._outputs: list[tuple[str, int]] = []

    @abstractmethod
    def bind(self, ports: Ports) -> None:
        """Find out which tensor is which. Raises InvalidArgumentError when they do not fit."""

    @abstractmethod
    def call(self, values: Mapping[str, Value]) -> Sequence[object]:
        """Run the program on inputs by name and return its results in order."""

    @abstractmethod
    def suggestion(self) -> tuple[list[str], list[str]]:
        """Names for inputs and outputs that would fit the program, for a message."""

    def results(self, results: Sequence[object]) -> dict[str, object]:
        """Give the results the names that the configuration has for them."""
        named: dict[str, object] = {}
        for name, position in self._outputs:
            if position >= len(results):
                raise InvalidArgumentError(
                    f"The output {name} in the model configuration refers to an output index "
                    f"which doesn't exist. This model has {len(results)} outputs"
                )
            named[name] = results[position]
        return named

    def _check_count(self, ports: Ports, least: int, most: int) -> None:
        if not least <= len(ports.inputs) <= most:
            raise InvalidArgumentError(
                f"unable to load model '{self._model.name}', configuration expects "
                f"{len(ports.inputs)} inputs, model provides {most}"
            )


class ScriptProgram(Program):
    """A TorchScript file."""

    def __init__(self, model: Model, path: Path, device: torch.device | None) -> None:
        super().__init__(model, device)
        with warnings.catch_warnings():  # it is deprecated, and it is what Triton serves
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` ")
            self._module: Any = cast(Any, torch.jit).load(str(path), map_location=device)
        schema = self._module.forward.schema
        self._arguments: list[Any] = schema.arguments[1:]  # the first is self
        self._returns: Any = schema.returns[0].type
        types = [str(argument.type.annotation_str) for argument in self._arguments]
        self._takes_dict = types == ["Dict[str, Tensor]"]
        if self._takes_dict:
            return
        for argument, text in zip(self._arguments, types, strict=True):
            if text not in _ARGUMENT_TYPES:
                raise InvalidArgumentError(
                    f"An input of type '{text}' was detected in the model '{model.name}' (argument "
                    f"'{argument.name}' of forward). Only a single input of type Dict(str, Tensor) "
                    "or input(s) of type Tensor or List[str] are supported."
                )

    def bind(self, ports: Ports) -> None:
        model = self._model
        names = [port.name for port in ports.inputs]
        outputs = [port.name for port in ports.outputs]
        if not self._takes_dict:
            required = sum(not argument.has_default_value() for argument in self._arguments)
            self._check_count(ports, required, len(self._arguments))
            arguments = [argument.name for argument in self._arguments]
            positions = by_rules(names, arguments, "input", model, ports.stateful)
            check_positions(names, positions, len(arguments), model)
            for port, position in zip(ports.inputs, positions, strict=True):
                self._check_type(port, self._arguments[position])
            self._inputs = list(zip(names, positions, strict=True))
        positions = by_rules(outputs, [], "output", model, ports.stateful)
        self._outputs = list(zip(outputs, positions, strict=True))

    def _check_type(self, port: Port, argument: Any) -> None:
        text = str(argument.type.annotation_str)
        if (port.datatype == "BYTES") is not ("List[str]" in text):
            raise InvalidArgumentError(
                f"input '{port.name}' of model '{self._model.name}' has datatype {port.datatype}, "
                f"but argument '{argument.name}' of forward is of type {text}: strings are "
                "TYPE_STRING here and List[str] there, everything else is a Tensor"
            )

    def call(self, values: Mapping[str, Value]) -> Sequence[object]:
        if self._takes_dict:
            return _flat(self._module(dict(values)))
        arguments: list[object] = [
            argument.default_value if argument.has_default_value() else None
            for argument in self._arguments
        ]
        for name, position in self._inputs:
            if name in values:
                arguments[position] = values[name]
        return _flat(self._module(*arguments))

    def suggestion(self) -> tuple[list[str], list[str]]:
        if self._takes_dict:
            inputs = [f"<a key of {self._arguments[0].name}>"]
        else:
            inputs = [argument.name for argument in self._arguments]
        count = len(self._returns.elements()) if self._returns.kind() == "TupleType" else 1
        return inputs, [f"output__{index}" for index in range(count)]


class ModuleProgram(Program):
    """An nn.Module that runs in Python: its arguments are the inputs in the configured order."""

    def __init__(
        self,
        model: Model,
        module: torch.nn.Module,
        device: torch.device | None,
        arguments: list[str],
    ) -> None:
        super().__init__(model, device)
        self._module = module
        self._arguments = arguments

    def bind(self, ports: Ports) -> None:
        self._inputs = [(port.name, position) for position, port in enumerate(ports.inputs)]
        self._outputs = [(port.name, position) for position, port in enumerate(ports.outputs)]

    def call(self, values: Mapping[str, Value]) -> Sequence[object]:
        results = self._module(*(values.get(name) for name, _ in self._inputs))
        return _flat(results, lists=True)

    def suggestion(self) -> tuple[list[str], list[str]]:
        return self._arguments, ["output"]


class StructuredProgram(Program):
    """A program whose arguments and results are a known structure of tensors."""

    def __init__(
        self,
        model: Model,
        device: torch.device | None,
        in_spec: pytree.TreeSpec,
        out_spec: pytree.TreeSpec,
    ) -> None:
        super().__init__(model, device)
        self._in_spec = in_spec
        #: Arguments that were fixed when the program was made (numbers, None) are not inputs.
        self._leaves: list[object] = [None] * in_spec.num_leaves
        self._open = list(range(in_spec.num_leaves))
        arguments, keywords = pytree.tree_unflatten(list(range(in_spec.num_leaves)), in_spec)
        results = pytree.tree_unflatten(list(range(out_spec.num_leaves)), out_spec)
        paths = [*leaf_paths("ARGS", arguments), *leaf_paths("KWARGS", keywords)]
        self._in_paths = [[path] for path in paths]
        self._out_paths = [[path] for path in leaf_paths("RESULT", results)]

    def bind(self, ports: Ports) -> None:
        model = self._model
        for port in (*ports.inputs, *ports.outputs):
            if port.datatype == "BYTES":
                raise InvalidArgumentError(
                    f"unsupported datatype TYPE_STRING for '{port.name}' for model '{model.name}': "
                    "a .pt2 program takes and gives tensors only"
                )
        self._check_count(ports, len(self._open), len(self._open))
        names = [port.name for port in ports.inputs]
        positions = by_path(names, [self._in_paths[i] for i in self._open], "input", model)
        check_positions(names, positions, len(self._open), model)
        self._inputs = [
            (name, self._open[position]) for name, position in zip(names, positions, strict=True)
        ]
        outputs = [port.name for port in ports.outputs]
        positions = by_path(outputs, self._out_paths, "output", model)
        self._outputs = list(zip(outputs, positions, strict=True))

    def call(self, values: Mapping[str, Value]) -> Sequence[object]:
        leaves = self._leaves.copy()
        for name, position in self._inputs:
            leaves[position] = values.get(name)
        return self.invoke(leaves)

    @abstractmethod
    def invoke(self, leaves: list[object]) -> Sequence[object]:
        """Run the program on the leaves of its arguments; returns those of its results."""

    def suggestion(self) -> tuple[list[str], list[str]]:
        return [self._in_paths[i][-1] for i in self._open], [path[0] for path in self._out_paths]


class ExportedProgram(StructuredProgram):
    """A torch.export program: the names of its arguments are in the file as well."""

    def __init__(self, model: Model, path: Path, device: torch.device | None) -> None:
        program = torch.export.load(path)
        tensors = cast("dict[str, torch.Tensor]", program.state_dict)
        if device is not None and any(tensor.device != device for tensor in tensors.values()):
            from torch.export.passes import move_to_device_pass  # only where it is needed

            program = move_to_device_pass(program, str(device))
        spec: Any = program.call_spec
        super().__init__(model, device, spec.in_spec, spec.out_spec)
        self._module: Any = program.module()
        leaves = cast("Sequence[object]", program.graph_signature.user_inputs)
        self._open = [i for i, leaf in enumerate(leaves) if isinstance(leaf, str)]
        self._leaves = [None if isinstance(leaf, str) else leaf for leaf in leaves]
        for position in self._open:
            self._in_paths[position].append(str(leaves[position]))

    def invoke(self, leaves: list[object]) -> Sequence[object]:
        arguments, keywords = pytree.tree_unflatten(leaves, self._in_spec)
        return pytree.tree_leaves(self._module(*arguments, **keywords))


class CompiledProgram(StructuredProgram):
    """An AOTInductor package: machine code, made for one kind of device."""

    def __init__(self, model: Model, path: Path, device: torch.device | None) -> None:
        from torch._inductor import aoti_load_package  # only where it is needed

        made_for = _compiled_for(path)
        index = -1 if device is None or made_for == "cpu" else device.index
        if device is None:
            device = torch.device(made_for)
        elif device.type != made_for:
            wanted = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}.get(made_for, "KIND_MODEL")
            raise InvalidArgumentError(
                f"model '{model.name}': {path.name} was compiled for {made_for}, but instance "
                f"'{model.instance.name}' runs on {device}: set instance_group to {wanted}, or "
                "compile the package again"
            )
        package: Any = aoti_load_package(str(path), device_index=index)
        in_spec, out_spec = (pytree.treespec_loads(text) for text in package.loader.get_call_spec())
        super().__init__(model, device, in_spec, out_spec)
        self._package: Any = package

    def invoke(self, leaves: list[object]) -> Sequence[object]:
        return cast("Sequence[object]", self._package.loader.boxed_run(leaves))


def open_program(model: Model, path: Path, device: torch.device | None) -> Program:
    """Load a file by what it holds: TorchScript, a torch.export program or an AOTI package.

    Raises InvalidArgumentError that says what the file is when it is none of them.
    """
    kind = _kind(model, path)
    try:
        return kind(model, path, device)
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError) as error:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}': {path.name} of version {model.version} is "
            f"damaged, or not for PyTorch {torch.__version__}: {first_line(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """What a library said, without the pages of stack that torch adds."""
    text = str(error).split("\nException raised from")[0].strip()
    if "Traceback of TorchScript" in text:  # what went wrong stands below the stack
        text = text.splitlines()[-1].removeprefix("RuntimeError: ")
        text = text.removeprefix("builtins.")
    return " ".join(text.split()) or type(error).__name__


def _kind(model: Model, path: Path) -> type[ScriptProgram | ExportedProgram | CompiledProgram]:
    try:
        with ZipFile(path) as archive:
            # The archive's own folder comes first in every name, whatever it is called.
            names = {name.partition("/")[2] for name in archive.namelist()} | {*archive.namelist()}
    except (BadZipFile, OSError) as error:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}': {path.name} of version {model.version} is not "
            f"a file that PyTorch wrote, or it is cut off: {error}"
        ) from error
    if any(name.startswith("data/aotinductor/") for name in names):
        return CompiledProgram
    if any(name.startswith("models/") and name.endswith(".json") for name in names):
        return ExportedProgram
    if "serialized_exported_program.json" in names:  # before torch 2.8
        return ExportedProgram
    if "constants.pkl" in names:
        return ScriptProgram
    raise InvalidArgumentError(
        f"unable to load model '{model.name}': {path.name} of version {model.version} holds "
        "pickled weights or a pickled module, not a program; save it by torch.jit.save or "
        'torch.export.save, or put the class into model.py and set runtime: "model.py"'
    )


def _compiled_for(path: Path) -> str:
    """The kind of device that an AOTInductor package was compiled for: cpu, cuda, ..."""
    with ZipFile(path) as archive:
        for name in archive.namelist():
            if "data/aotinductor/" in name and name.endswith("_metadata.json"):
                return str(json.loads(archive.read(name)).get("AOTI_DEVICE_KEY", "cpu"))
    return "cpu"


def _flat(results: object, lists: bool = False) -> list[object]:
    """A tensor, a list of strings, or a tuple (with `lists`, also a list) of these, as a list."""
    elements = [results]
    if isinstance(results, (tuple, list) if lists and not _is_strings(results) else tuple):
        elements = list(cast("Sequence[object]", results))
    for element in elements:
        if not (isinstance(element, torch.Tensor) or _is_strings(element)):
            raise TypeError(
                "output must be of type Tensor, List[str] or Tuple containing one of these two "
                "types. It should not be a List / Dictionary of Tensors or a Scalar"
            )
    return elements


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(element, str) for element in cast("list[object]", value)
    )
