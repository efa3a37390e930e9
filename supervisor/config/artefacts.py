"""From a model's files to its backend: what Triton concludes from what it finds.

The facts are one table; the rest of the module reads it from either end.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass

import msgspec

from ...ipc.errors import InvalidArgumentError
from .locate import Source
from .schema import ModelConfig


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file (or folder) that a version's folder may hold, and whose it is."""

    filename: str
    backend: str
    platform: str
    is_file: bool = True
    is_folder: bool = False

    def lies_in(self, directory: str) -> bool:
        """Whether a version's folder holds it."""
        path = os.path.join(directory, self.filename)
        return (self.is_file and os.path.isfile(path)) or (self.is_folder and os.path.isdir(path))


#: In the order in which Triton looks; the first that is there wins.
ARTEFACTS: tuple[Artefact, ...] = (
    Artefact("model.savedmodel", "tensorflow", "tensorflow_savedmodel", False, True),
    Artefact("model.graphdef", "tensorflow", "tensorflow_graphdef"),
    Artefact("model.plan", "tensorrt", "tensorrt_plan"),
    Artefact("model.onnx", "onnxruntime", "onnxruntime_onnx", True, True),
    Artefact("model.xml", "openvino", ""),
    Artefact("model.pt", "pytorch", "pytorch_libtorch"),
    Artefact("model.pt2", "pytorch", "torch_aoti"),
    Artefact("model.py", "python", ""),
)

#: An older spelling of the same platform.
_ALIASES = {"libtorch": "pytorch_libtorch"}

_BACKEND_OF = {artefact.platform: artefact.backend for artefact in ARTEFACTS if artefact.platform}
_KNOWN_BACKENDS = frozenset(artefact.backend for artefact in ARTEFACTS)


def complete_from_files(
    config: ModelConfig, model: str, version_directory: str | None, source: Source
) -> ModelConfig:
    """Fill in name, backend, platform and default_model_filename from what is there. Blocking.

    `version_directory` is the folder to look into: the lexicographically first version, as in
    Triton, or None when there is none. Raises InvalidArgumentError when backend and platform do
    not belong together, or nothing tells which backend the model is for.
    """
    config = msgspec.structs.replace(
        config,
        name=config.name or model,
        platform=_ALIASES.get(config.platform, config.platform),
    )
    if config.ensemble_scheduling is not None or config.platform == "ensemble":
        return msgspec.structs.replace(config, platform=config.platform or "ensemble")
    _check_pair(config, source)
    artefact = _artefact(config, version_directory)
    if artefact is not None:
        return _filled(config, artefact)
    if config.backend:
        return config
    if config.platform:
        return msgspec.structs.replace(config, backend=_backend_of(config, source))
    backend = _backend_in_name(model, version_directory)
    filename = config.default_model_filename or f"model.{backend}"
    return msgspec.structs.replace(config, backend=backend, default_model_filename=filename)


def has_files(backend: str) -> bool:
    """Whether the models of a backend are told by a file."""
    return backend in _KNOWN_BACKENDS


def _filled(config: ModelConfig, artefact: Artefact) -> ModelConfig:
    # The Python runtime of a backend looks for its files itself: which one it takes depends on
    # what else lies there.
    has_runtime = bool(config.runtime) and config.runtime.endswith(".py")
    return msgspec.structs.replace(
        config,
        backend=config.backend or artefact.backend,
        platform=config.platform or artefact.platform,
        default_model_filename=config.default_model_filename
        or ("" if has_runtime else artefact.filename),
    )


def _artefact(config: ModelConfig, directory: str | None) -> Artefact | None:
    """The row of the table that the model belongs to, None when it is a custom backend's."""
    rows = [
        row
        for row in ARTEFACTS
        if config.backend in ("", row.backend) and config.platform in ("", row.platform)
    ]
    if config.default_model_filename:
        named = [row for row in rows if row.filename == config.default_model_filename]
        if named or not (config.backend or config.platform):
            return named[0] if named else None
    elif directory is not None:
        for row in rows:
            if row.lies_in(directory):
                return row
    # A backend that has several kinds of file, none of them there: TensorFlow is left undecided,
    # as Triton leaves it; for PyTorch the first, TorchScript, is the rule.
    if config.platform or config.backend not in ("", "tensorflow"):
        return rows[0] if rows else None
    return None


def _check_pair(config: ModelConfig, source: Source) -> None:
    platform, backend = config.platform, config.backend
    # A backend that is not in the table may call its platform what it likes.
    if not platform or backend not in _KNOWN_BACKENDS or _BACKEND_OF.get(platform) == backend:
        return
    wanted = _BACKEND_OF.get(platform)
    remedy = f'write backend: "{wanted}"' if wanted else "leave `platform` out"
    raise InvalidArgumentError(
        f"{source.place(('platform',))}: unexpected 'platform' and 'backend' pair, "
        f"got:{platform}, {backend} in the configuration of model '{config.name}'; {remedy}"
    )


def _backend_of(config: ModelConfig, source: Source) -> str:
    backend = _BACKEND_OF.get(config.platform)
    if backend is None:
        known = sorted(_BACKEND_OF)
        near = difflib.get_close_matches(config.platform, known, 1)
        remedy = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
        raise InvalidArgumentError(
            f"{source.place(('platform',))}: unexpected platform type '{config.platform}' for "
            f"model '{config.name}': {remedy}"
        )
    return backend


def _backend_in_name(model: str, directory: str | None) -> str:
    """`anything.identity` is a model of the backend `identity`."""
    stem, _, backend = model.rpartition(".")
    if not stem or not backend:
        looked = (
            f"There is no version folder (such as {model}/1) to look into"
            if directory is None
            else f"The folder {directory} holds none of "
            + ", ".join(artefact.filename for artefact in ARTEFACTS)
        )
        raise InvalidArgumentError(
            f"Invalid model name: Could not determine backend for model '{model}' with no backend "
            "in model configuration. Expected model name of the form 'model.<backend_name>'. "
            f"{looked}."
        )
    return backend
