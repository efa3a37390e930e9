"""The one door for everything that is not inference: health, metadata, statistics, repository."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ..ipc.dtypes import from_config
from ..ipc.errors import InvalidArgumentError, NotFoundError, UnavailableError
from .config.schema import ModelConfig, ModelInput, ModelOutput
from .log import ServerLog
from .memory.regions import Regions
from .models.index import ModelIndex
from .models.manager import ModelManager
from .models.scale import parse_request
from .models.scaling import VersionInstances
from .models.traffic import TrafficStatus, parse_rule
from .settings import LogSettings
from .telemetry.statistics import StatisticsSnapshot
from .telemetry.trace import Traces

#: What the server says it can do, in the order in which Triton lists it; only what is built.
EXTENSIONS = [
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
]


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What the server tells of itself."""

    name: str
    version: str
    extensions: list[str]


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """An input or an output as clients see it; -1 is a dimension of any size."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What the server tells of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ControlPlane:
    """Answers about the server and its models, and changes to what is loaded."""

    def __init__(
        self,
        manager: ModelManager,
        server_id: str,
        server_version: str,
        log: ServerLog | None = None,
        traces: Traces | None = None,
        regions: Regions | None = None,
    ) -> None:
        self._manager = manager
        #: The server's log, whose settings clients may read and change.
        self.log = log or ServerLog(LogSettings())
        self._traces = traces or Traces()
        self._metadata = ServerMetadata(server_id, server_version, EXTENSIONS)
        self._exiting = False
        #: The shared memory that clients have registered.
        self.regions = regions or Regions()

    @property
    def exiting(self) -> bool:
        """Whether the server has been told to stop."""
        return self._exiting

    def begin_exit(self) -> None:
        """From now on the server is not ready, and loads nothing any more."""
        self._exiting = True

    def is_live(self) -> bool:
        """Whether the server answers at all: always, until it exits."""
        return not self._exiting

    async def is_ready(self) -> bool:
        """Whether the server and its models are ready for inference, and say so where asked."""
        return not self._exiting and await self._manager.check_ready()

    def labelled(self, model: str, label: str) -> int | None:
        """The version of a model that has a label now, None without one."""
        return self._manager.labelled(model, label)

    async def is_model_ready(self, model: str, version: int | None) -> bool:
        """Whether a version has an instance that runs, and says that it is ready where asked.

        Raises the errors of unknown models.
        """
        try:
            return await self._manager.version(model, version).pool.check_ready()
        except UnavailableError:
            return False

    def server_metadata(self) -> ServerMetadata:
        """What the server tells of itself."""
        return self._metadata

    def using(self, model: str) -> AbstractAsyncContextManager[None]:
        """Have a model that is loaded on demand loaded meanwhile. Raises UnavailableError."""
        return self._manager.residents.using(model)

    def model_metadata(self, model: str, version: int | None) -> ModelMetadata:
        """What a served version looks like to a client. Raises the look-up errors."""
        served = self._manager.version(model, version)
        versions = self._manager.ready_versions(model) if version is None else [version]
        config = served.config
        batching = config.max_batch_size > 0
        return ModelMetadata(
            served.name,
            [str(number) for number in versions],
            config.platform or config.backend,
            [_tensor(tensor, batching) for tensor in config.input],
            [_tensor(tensor, batching) for tensor in config.output],
        )

    def model_config(self, model: str, version: int | None) -> ModelConfig:
        """The complete configuration of a served version. Raises the look-up errors."""
        return self._manager.version(model, version).config

    def statistics(self, model: str, version: int | None) -> list[StatisticsSnapshot]:
        """The statistics of one version, of all versions of a model, or ("") of all models.

        Raises InvalidArgumentError for what is not served.
        """
        if not model:
            return self._manager.statistics()
        if version is None:
            found = self._manager.statistics(model)
            if not found:
                raise InvalidArgumentError(f"requested model '{model}' is not available")
            return found
        try:
            served = self._manager.version(model, version)
        except (InvalidArgumentError, NotFoundError, UnavailableError):
            raise InvalidArgumentError(
                f"requested model version is not available for model '{model}'"
                if self._manager.ready_versions(model)
                else f"requested model '{model}' is not available"
            ) from None
        return [served.snapshot()]

    def trace_settings(self, model: str) -> list[tuple[str, str | list[str]]]:
        """The trace settings of a model, or ("") the global ones. Raises the look-up errors."""
        if model:
            self._manager.version(model, None)
        return self._traces.described(model)

    def update_trace_settings(
        self, model: str, changes: Mapping[str, list[str] | None], space: str
    ) -> None:
        """Change the trace settings of a model, or ("") the global ones.

        `space` comes before the value in one error. Raises the look-up errors,
        InvalidArgumentError and UnsupportedError; then nothing is changed.
        """
        if model:
            self._manager.version(model, None)
        self._traces.update(changes, model, space)

    def traffic(self, model: str) -> TrafficStatus:
        """How the traffic of a model is split. Raises the look-up errors."""
        return self._manager.traffic(model)

    def set_traffic(self, model: str, document: bytes) -> None:
        """Split it by a rule as JSON, or by null as the configuration says.

        Raises the look-up errors and InvalidArgumentError; then nothing is changed.
        """
        where = f"the body of a traffic request for model '{model}'"
        rule = None if document.strip() == b"null" else parse_rule(document, where)
        self._manager.set_traffic(model, rule)

    def instances(self, model: str, version: int | None) -> list[VersionInstances]:
        """The instances of a model's versions, or of one. Raises the look-up errors."""
        return self._manager.scaling.status(model, version)

    async def scale(self, model: str, version: int | None, document: bytes) -> None:
        """Give an instance group the count of a JSON document; returns when the new ones serve.

        Raises the look-up errors, InvalidArgumentError and the error of an instance that cannot be
        had; then nothing is changed.
        """
        self._refuse_while_exiting()
        request = parse_request(document, f"the body of a request to scale model '{model}'")
        await self._manager.scaling.change(model, version, request)

    def index(self, ready: bool) -> list[ModelIndex]:
        """All models of the repositories, or only the versions that are ready."""
        return self._manager.index(ready)

    async def load(self, model: str, parameters: Mapping[str, str | bytes | int | bool]) -> None:
        """Load or reload a model; returns when that is done. Raises StatusError when it fails."""
        self._refuse_while_exiting()
        await self._manager.load(model, parameters)

    async def unload(self, model: str, unload_dependents: bool) -> None:
        """Unload a model; returns before its memory is free. An unknown model is no error."""
        self._refuse_while_exiting()
        await self._manager.unload(model, unload_dependents=unload_dependents)

    def _refuse_while_exiting(self) -> None:
        if self._exiting:
            raise UnavailableError("Server is stopping, it loads and unloads no models any more")


def _tensor(tensor: ModelInput | ModelOutput, batching: bool) -> TensorMetadata:
    shape = [-1, *tensor.dims] if batching else list(tensor.dims)
    return TensorMetadata(tensor.name, from_config(tensor.data_type), shape)
