"""What is known of a version before a worker is started for it, and what can be checked of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ...ipc.errors import InternalError
from ..config import defaults
from ..config.locate import Source
from ..config.runtime import Runtime, find_runtime
from ..config.schema import ModelConfig
from ..config.validate import validate
from ..repository.given import GivenFolder
from ..settings import Settings
from ..workers import devices
from .scale import with_counts


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be loaded: a version of a model, and the configuration as far as it is known."""

    name: str
    version: int
    directory: str
    config: ModelConfig
    source: Source
    #: The folder that was made for this load alone, where that is where the model lies.
    given: GivenFolder | None = None
    #: The repository that it lies in, with namespacing; else "".
    namespace: str = ""
    #: How many instances groups are to have in place of what the configuration says.
    counts: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def version_directory(self) -> str:
        """The folder of the version."""
        return os.path.join(self.directory, str(self.version))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version's configuration with all defaults, and what runs it.

    With `is_incomplete` the worker is to complete the configuration, which is checked then.
    """

    config: ModelConfig
    runtime: Runtime
    is_incomplete: bool
    #: What works, and is likely not meant.
    warnings: Sequence[str] = ()


def prepare(plan: Plan, settings: Settings) -> Prepared:
    """Everything that can be told of a version, that is no ensemble, from its files. Blocking.

    What can be checked already is checked, before a process is started for it. Raises StatusError
    when the version cannot be served.
    """
    config = completed(plan.config, plan)
    runtime = find_runtime(
        config,
        plan.directory,
        plan.version_directory,
        settings.workers.backend_directory,
        plan.source,
    )
    if runtime.file:
        config = replace(config, runtime=runtime.name)
    is_incomplete = _is_incomplete(config, runtime, settings)
    warnings: Sequence[str] = ()
    # Groups on GPUs, where there are none, have no instance: the check says so.
    if not is_incomplete or not defaults.instances(config):
        warnings = check(config, plan)
    return Prepared(config, runtime, is_incomplete, warnings)


def completed(config: ModelConfig, plan: Plan) -> ModelConfig:
    """A configuration with all defaults, and with the counts that the plan has in their place."""
    gpus = devices.usable_gpus(config.backend)
    return with_counts(defaults.normalise(config, gpus), plan.counts)


def check(config: ModelConfig, plan: Plan) -> Sequence[str]:
    """Check a complete configuration; returns warnings. Raises InvalidArgumentError."""
    return validate(config, plan.source, devices.usable_gpus(config.backend))


def read_labels(plan: Plan, config: ModelConfig) -> dict[str, list[str]]:
    """The label files of all outputs that have one. Blocking. Raises InternalError."""
    labels: dict[str, list[str]] = {}
    for output in config.output:
        if output.label_filename:
            path = os.path.join(plan.directory, output.label_filename)
            try:
                with open(path, encoding="utf-8") as file:
                    labels[output.name] = file.read().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InternalError(
                    f"model '{plan.name}': the label file '{output.label_filename}' of output "
                    f"'{output.name}' cannot be read: {error}"
                ) from None
    return labels


def _is_incomplete(config: ModelConfig, runtime: Runtime, settings: Settings) -> bool:
    """Whether the worker is asked to complete the configuration.

    A python model is always asked, because only it knows whether it wants to say something.
    """
    if settings.models.strict_config:
        return False
    is_python = config.backend == "python" or bool(runtime.file)
    return is_python or not config.input or not config.output
