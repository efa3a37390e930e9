"""The composition root: builds every part of the server, starts them in order, stops them in
reverse.

Ports open first: while models load the server is live and not ready, so that a slow model never
fails a liveness probe.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

import uvloop

from .. import __version__
from ..ipc.errors import StatusError
from ..ipc.nvml import Nvml
from . import tables
from .access import grpc_access, http_access, policy_of
from .bls import BusinessLogic
from .cache.config import open_cache
from .controlplane import EXTENSIONS, ControlPlane
from .dataplane import DataPlane
from .grpc.transport import GrpcFrontend, grpc_server
from .http.cors import Cors
from .http.load_report import no_metrics
from .http.metrics import MetricsServer
from .http.server import HttpServer
from .log import ServerLog, table
from .memory.copies import COPIES
from .memory.regions import Regions
from .models.entry import ON_DEMAND
from .models.loader import Loader
from .models.manager import ModelManager
from .models.model import ServedVersion
from .models.scaling import instance_states
from .repository import agents
from .settings import Settings
from .telemetry.gpu import Gpus
from .telemetry.host import Host
from .telemetry.metrics import Metrics, ModelSeries
from .telemetry.metrics_config import parse_metrics_config
from .telemetry.opentelemetry import OpenTelemetry
from .telemetry.trace import Traces
from .telemetry.trace_file import TraceFile
from .telemetry.trace_settings import parse_config
from .tls import server_context
from .workers.devices import gpus
from .workers.gpu_memory import unique_names
from .workers.handle_opener import HandleOpener
from .workers.process import Foreground, Surroundings
from .workers.sentinel import Sentinel

log = logging.getLogger(__name__)

#: How often idle memory is given back (seconds).
_TRIM_INTERVAL = 15.0

#: When the collector looks for rings of young objects. A request in flight is some ten of them, and
#: all go with it: at Python's own 700 the collector would look at every request several times.
_COLLECTOR_THRESHOLD = 20_000

#: Whatever the timeout was, models get this long to finalize (seconds).
_LEAST_STOP_TIME = 1.0


def run(settings: Settings, make: Callable[..., Server] | None = None) -> int:
    """Serve until a signal ends the server; returns the exit status of the process.

    `make` builds the server, where that is to be another one.
    """
    server_log = ServerLog(settings.log)
    try:
        server_log.open()
    except StatusError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    for notice in settings.notices:
        log.warning("%s", notice)
    _raise_descriptor_limit()
    try:
        with runtime() as (directory, sentinel), _calm_collector():
            server = (make or Server)(settings, directory, sentinel, server_log)
            return uvloop.run(_serve(settings, server))
    except (StatusError, OSError) as error:
        log.error("error: creating server: %s", error)
        return 1
    finally:
        server_log.close()


@contextmanager
def runtime() -> Generator[tuple[str, Sentinel]]:
    """A runtime directory and the sentinel that looks after it; afterwards both are gone.

    Raises OSError when the system refuses.
    """
    try:
        directory = tempfile.mkdtemp(prefix="tritonpy-", dir=os.environ.get("RUNTIME_DIRECTORY"))
    except OSError as error:
        raise OSError(f"no runtime directory: {error}") from None
    sentinel = Sentinel(directory)
    try:
        sentinel.start()
        yield directory, sentinel
    finally:
        # The loop and its handlers are gone; a second signal must not cut the rest short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        sentinel.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def _serve(settings: Settings, server: Server) -> int:
    """Start, wait for a signal, stop."""
    loop = asyncio.get_running_loop()
    received: asyncio.Future[int] = loop.create_future()

    def receive(number: int) -> None:
        if not received.done():
            received.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, receive, number)
    try:
        starting = loop.create_task(server.start())
        await asyncio.wait((starting, received), return_when=asyncio.FIRST_COMPLETED)
        if not received.done():
            if not starting.result():
                await server.stop()
                return 1
            await received
        log.info("Signal (%d) received.", received.result())
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0 if await server.stop() else 1
    except BaseException:
        await server.stop()
        raise


class Server:
    """Every part of one server."""

    def __init__(
        self,
        settings: Settings,
        runtime_directory: str,
        sentinel: Sentinel,
        server_log: ServerLog | None = None,
        foreground: Foreground | None = None,
    ) -> None:
        self._settings = settings
        self._cache = open_cache(settings.cache.config, os.environ)
        self._business_logic = BusinessLogic()
        surroundings = Surroundings(
            runtime_directory, sentinel, self._business_logic, foreground=foreground
        )
        host = Host(settings.metrics.interval_ms) if settings.metrics.host else None
        self._gpus = _gpus(settings)
        counters = parse_metrics_config(settings.metrics.config).counter_latencies
        self._metrics = Metrics(host, self._gpus, counters=counters, own=surroundings.metrics)
        self._loader = Loader(settings, surroundings, self._served, self._cache)
        self._manager = ModelManager(settings, self._loader, self._retired, runtime_directory)
        self._traces = _traces(settings)
        self._opener: HandleOpener | None = None
        if gpus():
            patience = float(settings.workers.start_timeout_secs)
            self._opener = HandleOpener(surroundings, gpus(), patience)
        self._controlplane = ControlPlane(
            self._manager,
            settings.server_id,
            __version__,
            server_log,
            self._traces,
            Regions(self._opener),
        )
        self._dataplane = DataPlane(
            self._manager, self._traces, self._controlplane.regions, self._manager.residents
        )
        self._business_logic.open(self._dataplane, self._controlplane)
        policy = policy_of(settings)
        self._http_access = http_access(policy, settings.http.restricted_apis)
        self._grpc_access = grpc_access(policy, settings.grpc.restricted_protocols)
        self._metrics_access = http_access(policy, ())
        self._http: HttpServer | None = None
        self._grpc: GrpcFrontend | None = None
        self._metrics_server: MetricsServer | None = None
        self._trimming: asyncio.Task[None] | None = None

    @property
    def models(self) -> ModelManager:
        """The models that it serves."""
        return self._manager

    async def start(self) -> bool:
        """Open the ports, then load the models; False when the server cannot be, or one of the
        models failed and should end it.

        Raises StatusError or OSError when a port or a repository cannot be had.
        """
        settings = self._settings
        if not await self._start_cache():
            return False
        await self._listen()
        self._trimming = asyncio.get_running_loop().create_task(self._trim())
        await self._manager.start()
        index = self._manager.index(ready=False)
        failed = [
            line for line in index if line.state == "UNAVAILABLE" and line.reason != ON_DEMAND
        ]
        table(log, tables.repository_agents(self._agent_rows()))
        table(log, tables.backends(self._backend_rows()))
        table(
            log,
            tables.models(
                (str(line.identifier), line.version or "-", _status(line.state, line.reason))
                for line in index
                if line.state
            ),
        )
        table(log, tables.options(settings, __version__, EXTENSIONS))
        if failed and settings.exit_on_error:
            log.error("error: creating server: %s", self._start_failure())
            return False
        return True

    async def stop(self) -> bool:
        """Stop taking requests, finish those that run, unload.

        False when the timeout expired before all of that was done.
        """
        timeout = float(self._settings.exit_timeout_secs)
        deadline = time.monotonic() + timeout
        self._controlplane.begin_exit()
        running = self._manager.running
        if running:
            log.info("Waiting for in-flight requests to complete: %d found", running)
        await self._manager.finish_sequences(timeout)
        timeout = max(0.0, deadline - time.monotonic())
        fronts = [front for front in (self._http, self._grpc) if front is not None]
        if self._grpc is not None:  # before the loop reads anything more
            self._grpc.refuse()
        # A client that waits for a load is told at once, and keeps nobody.
        await asyncio.gather(
            self._manager.stop_loading(), *(front.stop(timeout) for front in fronts)
        )
        left = max(0.0, deadline - time.monotonic())
        if self._trimming is not None:
            self._trimming.cancel()
        in_time = left > 0 or not running
        in_time &= await self._manager.stop(left, max(left, _LEAST_STOP_TIME))
        await self._business_logic.close()
        await self._loader.close()
        self._controlplane.regions.close()
        if self._cache is not None:
            await self._cache.close()
        if self._opener is not None:
            await self._opener.close()
        if self._metrics_server is not None:
            await self._metrics_server.stop()
        if self._gpus is not None:
            self._gpus.stop()
        await asyncio.to_thread(self._traces.close)
        if not in_time:
            log.error(
                "failed to stop server: Internal - Exit timeout expired. Exiting immediately."
            )
            return False
        return True

    async def _start_cache(self) -> bool:
        """Make the response cache ready; False when it cannot be had, which the log tells."""
        try:
            if self._cache is not None:
                await self._cache.start()
        except StatusError as error:
            log.error("error: creating server: %s - %s", error.label, error.message)
            return False
        return True

    async def _listen(self) -> None:
        settings = self._settings
        if settings.grpc.enabled:
            self._grpc = grpc_server(
                self._dataplane, self._controlplane, settings.grpc, self._grpc_access
            )
            port = await self._grpc.start()
            log.info("Started GRPCInferenceService at %s:%d", settings.grpc.address, port)
        tls = server_context(settings.http.tls, "http")
        if settings.http.enabled:
            self._http = HttpServer(
                self._dataplane,
                self._controlplane,
                self._http_access,
                address=settings.http.address,
                port=settings.http.port,
                reuse_port=settings.http.reuse_port,
                max_input_size=settings.http.max_input_bytes,
                header_forward_pattern=settings.http.header_forward_pattern,
                cors=Cors(settings.http.cors_origins) if settings.http.cors_origins else None,
                tls=tls,
                metrics=self._render_metrics if settings.metrics.enabled else no_metrics,
            )
            port = await self._http.start()
            log.info("Started HTTPService at %s:%d", settings.http.address, port)
        if settings.metrics.enabled:
            self._metrics_server = MetricsServer(
                self._render_metrics,
                self._metrics_access,
                settings.metrics.address,
                settings.metrics.port,
                tls if settings.metrics.use_tls else None,
            )
            if self._gpus is not None:
                self._gpus.start()
            port = await self._metrics_server.start()
            log.info("Started Metrics Service at %s:%d", settings.metrics.address, port)

    async def _trim(self) -> None:
        """Every now and then give back memory that lies idle."""
        while True:
            await asyncio.sleep(_TRIM_INTERVAL)
            for served in self._manager.all_served():
                served.trim()

    def _render_metrics(self) -> str:
        cache = None if self._cache is None else self._cache.snapshot()
        series = (_series(served) for served in self._manager.all_served())
        return self._metrics.render(series, cache, (COPIES.inward, COPIES.outward))

    def _retired(self, served: ServedVersion) -> None:
        self._metrics.retire(_series(served))

    def _served(self, model: str, version: int | None, home: str) -> ServedVersion:
        """What the steps of ensembles run on."""
        return self._manager.version(model, version, home)

    def _start_failure(self) -> str:
        """What keeps the server from starting: in explicit mode, what a model failed with."""
        error = self._manager.start_error
        if self._settings.models.mode == "explicit" and error is not None:
            return f"{error.label} - {error.message.rstrip()}"
        return "Internal - failed to load all models"

    def _agent_rows(self) -> Iterable[tuple[str, str]]:
        served = self._manager.all_served()
        for name in sorted({name for one in served for name in agents.names(one.config)}):
            yield name, "built in"

    def _backend_rows(self) -> Iterable[tuple[str, str, str]]:
        names = {served.config.backend for served in self._manager.all_served()}
        for name in sorted(names - {""}):  # an ensemble has none
            yield name, "worker process", str(self._settings.workers.backend(name))


def _traces(settings: Settings) -> Traces:
    """The traces that the settings want, with the place where they go."""
    config = parse_config(settings.trace.config)
    if config.mode == "opentelemetry":
        return Traces(config, OpenTelemetry(config))
    return Traces(config, TraceFile(config.file) if config.file else None)


def _status(state: str, reason: str) -> str:
    return f"{state}: {reason}" if reason else state


def _series(served: ServedVersion) -> ModelSeries:
    latencies = served.statistics.latencies
    return ModelSeries(
        served.snapshot(),
        served.config.metric_tags,
        None if latencies is None else latencies.snapshot(),
        served.namespace,
        instance_states(served),
    )


def _gpus(settings: Settings) -> Gpus | None:
    """The gauges of the GPUs, where there are any and somebody may ask for them."""
    if not (settings.metrics.enabled and settings.metrics.gpus and gpus()):
        return None
    nvml = Nvml.open()
    if nvml is None:
        return None
    return Gpus(nvml, [unique_names(gpu) for gpu in gpus()], settings.metrics.interval_ms)


@contextmanager
def _calm_collector() -> Generator[None]:
    """Have the garbage collector look seldom, and never at what lives as long as the server."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECTOR_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _raise_descriptor_limit() -> None:
    """Use as many descriptors as the operator allows: every connection and worker needs some."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
