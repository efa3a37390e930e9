"""The worker's main loop: receive, do, answer, until told to stop."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

from ..ipc import messages
from ..ipc.channel import WorkerChannel
from ..ipc.claims import Claims
from ..ipc.descriptors import DescriptorInbox
from ..ipc.errors import InternalError, StatusError
from ..ipc.messages import (
    AttachArena,
    AttachClaims,
    AttachCudaRegion,
    AttachReadiness,
    AttachRegion,
    CudaRegionAttached,
    Describe,
    Described,
    DetachArena,
    DetachRegion,
    Execute,
    Load,
    Loaded,
    LoadFailed,
    Started,
    Stop,
    Stopped,
    Trim,
)
from . import readiness, registry, usage
from .answers import FAILURES, text_of
from .backend import Backend, Model, RequestBackend
from .calls import Calls
from .inbox import Inbox
from .instance import Instance
from .memory import Memory
from .numa import bind_memory
from .ongoing import Ongoing

log = logging.getLogger("tritonpy.worker")


class Worker:
    """What a worker process is between its start and its end."""

    def __init__(self, channel: WorkerChannel, descriptors: DescriptorInbox) -> None:
        self._channel = channel
        self._descriptors = descriptors
        self._memory = Memory()
        self._inbox = Inbox(channel, self._memory.release)
        self._calls = Calls(self._memory, self._inbox, channel)
        self._inbox.on_arena, self._inbox.on_answer = self._attach_arena, self._calls.take
        self._claims: Claims | None = None
        self._backend: Backend | None = None
        #: What the process took before its backend saw the model.
        self._taken: usage.Taken = {}
        self._instance: Instance | None = None
        #: Called when the model is loaded, before the supervisor is told.
        self.on_loaded: Callable[[], None] = _nothing

    def run(self) -> None:
        """Say that we are up, then serve the supervisor until it says stop or a load fails.

        Afterwards no thread receives any more, and the channel may be closed.
        """
        self._channel.send(Started())
        try:
            self._serve()
        finally:
            self._inbox.close()

    def _serve(self) -> None:
        while True:
            instance = self._instance
            is_alone = instance is None or not instance.ongoing
            message = self._inbox.next_work(only_messages=is_alone)
            if isinstance(message, Execute):
                assert self._instance is not None, "Load comes before Execute"
                if message.ahead and not self._claim(message):
                    continue
                executed = self._instance.execute(message)
                if executed is not None:
                    self._channel.send(executed)
            elif isinstance(message, Ongoing):
                self._finish(message)
            elif isinstance(message, Trim):
                self._memory.trim()
            elif isinstance(message, DetachArena):
                self._memory.detach(message.number)
            elif isinstance(message, AttachRegion):
                self._attach_region(message)
            elif isinstance(message, AttachCudaRegion):
                self._attach_cuda_region(message)
            elif isinstance(message, DetachRegion):
                self._memory.regions.detach(message.number)
                self._memory.cuda.detach(message.number)
            elif isinstance(message, AttachClaims):
                self._claims = Claims(self._descriptors.take(message.number))
            elif isinstance(message, AttachReadiness):
                self._attach_readiness(message)
            elif isinstance(message, Stop):
                self._stop()
                return
            elif not self._prepare(message):
                return

    def _claim(self, ahead: Execute) -> bool:
        """Whether a batch that was sent ahead is to be run, and was not taken back meanwhile."""
        assert self._claims is not None, "AttachClaims comes before Execute"
        if self._claims.claim(ahead.batch):
            return True
        self._inbox.forget(ahead)
        return False

    def _attach_arena(self, message: AttachArena) -> None:
        try:
            descriptor = self._descriptors.take(message.number)
        except ConnectionError:
            raise
        except OSError as error:
            if self._instance is None:
                raise
            # Another model's arena: the requests that name it fail, and say so.
            log.error("arena %d cannot be had: %s", message.number, error)
        else:
            self._memory.attach(message.number, descriptor, message.size)

    def _attach_region(self, message: AttachRegion) -> None:
        try:
            descriptor = self._descriptors.take(message.number)
        except ConnectionError:
            raise
        except OSError as error:  # the requests that name the region fail, and say so
            log.error("shared memory region '%s' cannot be had: %s", message.name, error)
        else:
            self._memory.regions.attach(message.number, message.name, descriptor, message.end)

    def _attach_cuda_region(self, message: AttachCudaRegion) -> None:
        failure = self._memory.cuda.attach(message)
        error = None if failure is None else messages.error_of(failure)
        self._channel.send(CudaRegionAttached(message.number, error))

    def _attach_readiness(self, message: AttachReadiness) -> None:
        assert isinstance(self._backend, RequestBackend)
        assert self._backend.readiness is not None, "Loaded says so"
        descriptor = self._descriptors.take(message.number)
        readiness.start(descriptor, self._backend.readiness, self._channel)

    def _prepare(self, message: Describe | Load) -> bool:
        """Describe or load the model; False when that failed and the process should end."""
        self._settle(message.instance.numa_node)
        try:
            if isinstance(message, Describe):
                self._describe(message)
            else:
                self._load(message)
        except StatusError as error:
            self._channel.send(LoadFailed(messages.error_of(error)))
            return False
        except FAILURES as error:
            log.error("loading model '%s' failed", message.files.name, exc_info=error)
            failure = InternalError(text_of(error))
            self._channel.send(LoadFailed(messages.error_of(failure)))
            return False
        return True

    def _settle(self, numa_node: int) -> None:
        """Before anything of the model is loaded: take its memory from where it should be."""
        if numa_node >= 0:
            try:
                bind_memory(numa_node)
            except OSError as error:
                log.warning("memory of NUMA node %d cannot be asked for: %s", numa_node, error)

    def _describe(self, message: Describe) -> None:
        model = _model(message)
        config = self._backend_of(model).describe(model)
        self._channel.send(Described(json.dumps(config)))

    def _load(self, message: Load) -> None:
        model = _model(message)
        backend = self._backend_of(model)
        self._memory.writable_inputs = backend.writes_inputs
        self._memory.deferred_inputs = backend.defers_inputs
        # Before load: a model's own threads may answer as soon as it runs.
        self._instance = Instance(model, backend, self._memory, self._inbox, self._channel)
        backend.load(model)
        self._memory.device_inputs = backend.takes_device_tensors
        self.on_loaded()
        memory = usage.growth(self._taken, usage.taken(model.instance))
        asks = isinstance(backend, RequestBackend) and backend.readiness is not None
        self._channel.send(Loaded(backend.pure, memory, backend.concurrency, asks))

    def _backend_of(self, model: Model) -> Backend:
        if self._backend is None:
            self._backend = registry.backend_class(model.config.get("backend", ""), model)()
            self._taken = usage.taken(model.instance)
            if isinstance(self._backend, RequestBackend):
                self._backend.server = self._calls
        return self._backend

    def _finish(self, ongoing: Ongoing) -> None:
        """Answer a batch that was executed beside others."""
        assert self._instance is not None
        self._channel.send(self._instance.finish(ongoing))

    def _stop(self) -> None:
        if self._instance is not None:
            while self._instance.ongoing:
                message = self._inbox.next_work()
                if isinstance(message, Ongoing):  # nothing else matters any more
                    self._finish(message)
            try:
                self._instance.unload()
            except FAILURES as error:
                log.error("finalizing the model failed", exc_info=error)
        self._channel.send(Stopped())


def _nothing() -> None:
    """What is done about a loaded model where nobody wants more."""


def _model(message: Describe | Load) -> Model:
    backend_config: Mapping[str, str] = message.backend_config
    return Model(
        message.files.name,
        message.files.version,
        message.files.directory,
        message.files.version_directory,
        json.loads(message.config),
        message.instance,
        backend_config,
        message.files.runtime,
    )
