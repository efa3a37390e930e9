"""The settings of a server: one frozen struct for each part, checked once, here.

The defaults stand here and nowhere else; the option table (options.py) names the field that each
option of the command line fills. Sizes are bytes, other units stand in the names.
"""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from ..ipc.errors import InvalidArgumentError

ControlMode = Literal["none", "poll", "explicit"]
RateLimit = Literal["execution_count", "off"]
LogFormat = Literal["default", "ISO8601"]
ResidencyPolicy = Literal["always", "on-demand"]
CompressionLevel = Literal["none", "low", "medium", "high"]
GrpcTransport = Literal["grpcio", "lean"]

#: A startup model of this name stands for every model of the repositories.
ALL_MODELS = "*"

_ARENA_GRAIN_BYTES = 2 * 1024 * 1024


def usable_memory_bytes(cgroup: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int:
    """The memory that this process may use: the machine's, or what its cgroup (v2) allows."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open(cgroup) as file:
            path = next(line[3:].strip() for line in file if line.startswith("0::"))
        with open(os.path.join(root, path.lstrip("/"), "memory.max")) as file:
            return min(memory, int(file.read()))  # "max" is no number: no limit
    except (OSError, StopIteration, ValueError):
        return memory


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """TLS on a port: `mutual` pre-empts `enabled`, and asks clients for certificates.

    The others are paths of PEM files: the server's certificate and key, and the certificates that
    those of clients must lead to.
    """

    enabled: bool = False
    mutual: bool = False
    certificate: str = ""
    key: str = ""
    root: str = ""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP service. Port 0 picks a free port."""

    enabled: bool = True
    address: str = "0.0.0.0"
    port: int = 8000
    reuse_port: bool = False
    max_input_bytes: int = 64 * 1024 * 1024
    restricted_apis: tuple[str, ...] = ()
    header_forward_pattern: str = ""
    cors_origins: tuple[str, ...] = ()
    tls: TlsSettings = TlsSettings()


class GrpcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The gRPC service and its keep-alive rules. Port 0 picks a free port.

    None leaves a limit unset. No more than `max_pings_without_data` pings go out without data, and
    a client that pings more often than `min_recv_ping_interval_ms` earns a strike; 0 lifts either
    limit on counts. `compression` is that of inference responses. `transport` is who speaks HTTP/2:
    grpcio, or this server itself.
    """

    enabled: bool = True
    transport: GrpcTransport = "grpcio"
    address: str = "0.0.0.0"
    port: int = 8001
    reuse_port: bool = False
    keepalive_time_ms: int = 7_200_000
    keepalive_timeout_ms: int = 20_000
    keepalive_permit_without_calls: bool = False
    max_pings_without_data: int = 2
    min_recv_ping_interval_ms: int = 300_000
    max_ping_strikes: int = 2
    max_connection_age_ms: int | None = None
    max_connection_age_grace_ms: int | None = None
    tls: TlsSettings = TlsSettings()
    compression: CompressionLevel = "none"
    reflection: bool = False
    restricted_protocols: tuple[str, ...] = ()
    header_forward_pattern: str = ""


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics service. Port 0 picks a free port.

    The gauges of the host (`host`) and of GPUs (`gpus`) are read at most once in `interval_ms`.
    `use_tls` encrypts with the certificate of HTTP. `config` are the texts of --metrics-config,
    which telemetry/ reads.
    """

    enabled: bool = True
    address: str = "0.0.0.0"
    port: int = 8002
    interval_ms: int = 2000
    host: bool = True
    gpus: bool = True
    use_tls: bool = False
    config: tuple[str, ...] = ()


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call what.

    `api_keys_file` is "" where callers need no key. With `allow_remote_admin` not only local peers
    may call what changes the server. `allow_client_shm` says whether clients may register shared
    memory; None leaves it to those who may change the server.
    """

    api_keys_file: str = ""
    allow_remote_admin: bool = False
    allow_client_shm: bool | None = None


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged, where to and in which form; all but `file` may change while serving.

    `verbose` is the level up to which verbose messages are let through, 0 for none. `file` is ""
    for the console. Without `escape` messages are written as they are instead of JSON-quoted.
    """

    verbose: int = 0
    info: bool = True
    warning: bool = True
    error: bool = True
    format: LogFormat = "default"
    file: str = ""
    escape: bool = True


class TraceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is traced, as the texts that the command line gives; telemetry/ reads them."""

    config: tuple[str, ...] = ()


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The response cache: what the command line gives for each kind, of which one may be there.

    cache/config.py reads the texts.
    """

    config: dict[str, dict[str, str]] = {}


class ModelControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which models are loaded and when.

    `poll_secs` counts in mode poll only, where 0 means never; `startup` in mode explicit only.
    With `strict_config` a model's configuration must be complete as it stands in its file.
    `config_name` names the file `configs/<config_name>.pbtxt` to prefer over config.pbtxt.
    A load that fails is tried again `load_retries` times. Each of `gpu_limits`, `<gpu>:<fraction>`,
    refuses loads while a GPU's memory is fuller than that. `cache_directory` is where models from
    the cloud are kept; empty for the user's own. With `namespacing` models of several repositories
    may have the same name.
    """

    mode: ControlMode = "none"
    poll_secs: int = 15
    startup: tuple[str, ...] = ()
    config_name: str = ""
    strict_config: bool = False
    load_threads: int = 4
    load_retries: int = 0
    gpu_limits: tuple[str, ...] = ()
    cache_directory: str = ""
    namespacing: bool = False


class ResidencySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which models are loaded at their first request, and when they are unloaded again.

    `policy` is for models that do not say. A model that was not used for `idle_secs` is unloaded, 0
    for never; a request waits `wait_secs` for its model. When workers take more than `max_bytes`,
    or less than `min_free_bytes` of memory are left, those least recently used go; 0 for no limit.
    """

    policy: ResidencyPolicy = "always"
    idle_secs: int = 300
    wait_secs: int = 60
    max_bytes: int = 0
    min_free_bytes: int = 0


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The worker processes.

    `arena_byte_size` is the size of one shared-memory arena, 0 for half of the machine's memory;
    an arena is sparse and costs only what is in use. `start_timeout_secs` bounds the time until a
    new worker says hello, not the loading of its model. `backend_config` maps a backend's name, or
    "" for all of them, to its settings; python-based backends lie in folders of
    `backend_directory`. `rate_limit` says whether instances wait for the resources
    of their models, of which there is as much as `rate_limit_resources` say. `host_policies` say on
    which cores and with memory of which NUMA node they run. A worker is killed when its model is
    not loaded within `load_timeout_secs`, when an execution takes longer than
    `execution_timeout_secs`, or the worker more memory than `memory_limit_byte_size`, where these
    are not 0 and its model does not say otherwise.
    """

    arena_byte_size: int = 0
    start_timeout_secs: int = 60
    backend_config: dict[str, dict[str, str]] = {}
    backend_directory: str = "/opt/tritonserver/backends"
    rate_limit: RateLimit = "off"
    rate_limit_resources: tuple[str, ...] = ()
    host_policies: tuple[str, ...] = ()
    load_timeout_secs: int = 0
    execution_timeout_secs: int = 0
    memory_limit_byte_size: int = 0

    @property
    def arena_bytes(self) -> int:
        """The size of an arena with the default filled in, in whole huge pages."""
        size = self.arena_byte_size
        if not size:
            size = usable_memory_bytes() // 2
        return max(size // _ARENA_GRAIN_BYTES, 1) * _ARENA_GRAIN_BYTES

    def backend(self, name: str) -> dict[str, str]:
        """The settings that a backend sees: those for all backends, overridden by its own."""
        return {**self.backend_config.get("", {}), **self.backend_config.get(name, {})}


class EnvironmentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The execution environments of models.

    `cache_directory` keeps those that were unpacked or installed; empty for the user's own.
    `worker_wheels` is a folder with wheels of what a worker needs in a Python of another version;
    empty for pip's index.
    """

    cache_directory: str = ""
    worker_wheels: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a server is told at its start.

    With `exit_on_error` a model that fails to load at the start ends the server. With
    `strict_readiness` the server is ready only when every model is; with `sticky_readiness` it
    stays ready from the first time on. `notices` are sentences about the command line that the
    server logs once as warnings.
    """

    server_id: str = "triton"
    exit_timeout_secs: int = 30
    repositories: tuple[str, ...] = ()
    exit_on_error: bool = False
    strict_readiness: bool = True
    sticky_readiness: bool = False
    models: ModelControlSettings = ModelControlSettings()
    residency: ResidencySettings = ResidencySettings()
    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()
    metrics: MetricsSettings = MetricsSettings()
    access: AccessSettings = AccessSettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()
    workers: WorkerSettings = WorkerSettings()
    environments: EnvironmentSettings = EnvironmentSettings()
    cache: CacheSettings = CacheSettings()
    notices: tuple[str, ...] = ()


def check(settings: Settings) -> None:
    """Refuse settings that contradict each other.

    Raises InvalidArgumentError that names the options to change.
    """
    if not settings.repositories:
        raise InvalidArgumentError(
            "--model-repository is missing: name the folder that holds the models, "
            "for example --model-repository=/srv/models"
        )
    _check_startup_models(settings.models)
    _check_ports(settings)
    if settings.metrics.use_tls and not (settings.http.tls.enabled or settings.http.tls.mutual):
        raise InvalidArgumentError(
            "--metrics-use-ssl takes the certificate of HTTP: give --http-use-ssl=true with "
            "--http-server-cert and --http-server-key as well"
        )


def _check_startup_models(models: ModelControlSettings) -> None:
    if models.startup and models.mode != "explicit":
        raise InvalidArgumentError(
            "Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
        )
    if ALL_MODELS in models.startup and len(models.startup) > 1:
        others = ", ".join(repr(name) for name in models.startup if name != ALL_MODELS)
        raise InvalidArgumentError(
            f"--load-model=* loads every model and must be the only --load-model: "
            f"leave out either '*' or {others}"
        )


def _check_ports(settings: Settings) -> None:
    services: tuple[tuple[str, HttpSettings | GrpcSettings | MetricsSettings], ...] = (
        ("HTTP", settings.http),
        ("GRPC", settings.grpc),
        ("metrics", settings.metrics),
    )
    taken: list[tuple[str, HttpSettings | GrpcSettings | MetricsSettings]] = []
    for name, service in services:
        if not service.enabled or service.port == 0:
            continue
        for other_name, other in taken:
            if service.port == other.port and _overlap(service.address, other.address):
                raise InvalidArgumentError(
                    f"The server cannot listen to {other_name} requests and {name} requests "
                    f"at the same address and port {other.address}:{other.port}"
                )
        taken.append((name, service))


def _overlap(one: str, other: str) -> bool:
    """Whether two addresses share an interface: equal, or one is its family's wildcard."""
    if one == other:
        return True
    if (":" in one) != (":" in other):
        return False
    return not {one, other}.isdisjoint({"0.0.0.0", "::"})
