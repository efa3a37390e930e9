"""A worker describes, loads, executes and stops as it is told, and says why when it cannot."""

from __future__ import annotations

import json
import logging
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from support.clients import eventually
from support.peers import TIMEOUT, Background, Peer

from tritonpy.ipc import messages
from tritonpy.ipc.arena import CHUNK_BYTES
from tritonpy.ipc.claims import CLAIMS_NUMBER, Offers
from tritonpy.ipc.descriptors import DescriptorInbox, send_descriptor
from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.messages import (
    AttachClaims,
    Describe,
    Described,
    Error,
    Execute,
    Executed,
    Load,
    Loaded,
    LoadFailed,
    Release,
    Started,
    Stop,
    Stopped,
    Trim,
)
from tritonpy.ipc.tensor import Span, Tensor
from tritonpy.worker import registry
from tritonpy.worker.backend import (
    Array,
    Backend,
    Finish,
    Model,
    Request,
    RequestBackend,
    Response,
    TensorBackend,
)
from tritonpy.worker.loop import Worker

FILES = messages.ModelFiles("m", 3, "/models/m", "/models/m/3")
INSTANCE = messages.Instance("m_0", "CPU", 0, 2)
CONFIG = {"name": "m", "backend": "fake", "output": [{"name": "y"}]}


class Fake(TensorBackend):
    """A backend that doubles x, and does at each step what the test says."""

    pure = True

    #: What to raise, by the step.
    failures: ClassVar[Mapping[str, BaseException]] = {}
    #: What was called, in order.
    calls: ClassVar[list[str]]
    models: ClassVar[list[Model]]

    def describe(self, model: Model) -> dict[str, Any]:
        self._step("describe", model)
        return {**model.config, "max_batch_size": 4}

    def load(self, model: Model) -> None:
        self._step("load", model)

    def unload(self) -> None:
        self._step("unload", None)

    def run(self, inputs: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        return {"y": inputs["x"] * 2}

    def _step(self, name: str, model: Model | None) -> None:
        self.calls.append(name)
        if model is not None:
            self.models.append(model)
        failure = self.failures.get(name)
        if failure is not None:
            raise failure


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as made:
        yield made


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """The class that the worker finds under the name fake."""

    class Found(Fake):
        pass

    Found.calls, Found.models = [], []

    def backend_class(name: str, _model: Model) -> type[Backend]:
        assert name == "fake"
        return Found

    monkeypatch.setattr(registry, "backend_class", backend_class)
    return Found


@pytest.fixture
def worker(peer: Peer) -> Background:
    """A worker that runs until it is told to stop."""
    made = Worker(peer.channel, DescriptorInbox(peer.workers_lifeline))
    running = Background(made.run)
    assert peer.receive() == Started()
    return running


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "tritonpy.worker")


def load(config: Mapping[str, Any] = CONFIG) -> Load:
    return Load(FILES, json.dumps(config), INSTANCE, {"threads": "2"})


def describe(config: Mapping[str, Any] = CONFIG) -> Describe:
    return Describe(FILES, json.dumps(config), INSTANCE, {})


def stop(peer: Peer, worker: Background) -> None:
    peer.send(Stop())
    assert peer.receive() == Stopped()
    worker.result()


def test_a_worker_that_has_no_model_stops(peer: Peer, worker: Background) -> None:
    stop(peer, worker)


def test_describing_answers_with_the_completed_configuration(
    peer: Peer, worker: Background, backend: type[Fake]
) -> None:
    peer.send(describe())

    message = peer.receive()

    assert isinstance(message, Described)
    assert json.loads(message.config) == {**CONFIG, "max_batch_size": 4}
    stop(peer, worker)
    assert backend.calls == ["describe"]


def test_loading_says_whether_the_backend_is_pure(
    peer: Peer, worker: Background, backend: type[Fake]
) -> None:
    peer.send(load())

    loaded = peer.receive()
    assert isinstance(loaded, Loaded)
    assert loaded.pure
    stop(peer, worker)


def test_the_backend_is_told_all_about_its_model(
    peer: Peer, worker: Background, backend: type[Fake]
) -> None:
    peer.send(load())
    peer.receive()

    (model,) = backend.models
    assert (model.name, model.version) == ("m", 3)
    assert (model.directory, model.version_directory) == ("/models/m", "/models/m/3")
    assert model.config == CONFIG
    assert model.instance == INSTANCE
    assert model.backend_config == {"threads": "2"}
    stop(peer, worker)


def test_one_backend_describes_loads_and_is_unloaded(
    peer: Peer, worker: Background, backend: type[Fake]
) -> None:
    peer.send(describe())
    peer.receive()
    peer.send(load())
    peer.receive()

    stop(peer, worker)

    assert backend.calls == ["describe", "load", "unload"]


@pytest.mark.parametrize("step", ["describe", "load"])
@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (InvalidArgumentError("no such file"), Error("INVALID_ARG", "no such file")),
        (InvalidArgumentError("file \udcff"), Error("INVALID_ARG", "file \\udcff")),
        (RuntimeError("bad magic"), Error("INTERNAL", "RuntimeError: bad magic")),
        (SystemExit(1), Error("INTERNAL", "SystemExit: 1")),
    ],
)
def test_a_model_that_cannot_be_prepared_says_why_and_the_worker_ends(
    peer: Peer,
    worker: Background,
    backend: type[Fake],
    step: str,
    failure: BaseException,
    error: Error,
) -> None:
    backend.failures = {step: failure}
    peer.send(describe() if step == "describe" else load())

    assert peer.receive() == LoadFailed(error)
    worker.result()


def test_a_configuration_that_makes_no_sense_is_a_failed_load(
    peer: Peer, worker: Background, backend: type[Fake]
) -> None:
    peer.send(load({"backend": "fake", "output": [{}]}))

    assert peer.receive() == LoadFailed(Error("INTERNAL", "KeyError: 'name'"))
    worker.result()


def test_a_backend_that_does_not_exist_is_a_failed_load(peer: Peer, worker: Background) -> None:
    peer.send(load({"backend": "nonesuch"}))

    message = peer.receive()

    assert isinstance(message, LoadFailed)
    assert message.error.code == "INTERNAL"
    assert "backend 'nonesuch' of model" in message.error.message
    worker.result()


@pytest.mark.parametrize("failure", [RuntimeError("I want to stay"), SystemExit(0)])
def test_a_model_that_does_not_want_to_go_is_left(
    peer: Peer, worker: Background, backend: type[Fake], failure: BaseException
) -> None:
    backend.failures = {"unload": failure}
    peer.send(load())
    peer.receive()

    stop(peer, worker)

    assert backend.calls == ["load", "unload"]


def test_a_batch_that_was_sent_ahead_runs_only_if_it_was_not_taken_back(
    peer: Peer, worker: Background, backend: type[Fake]
) -> None:
    offers = Offers()
    send_descriptor(peer.lifeline, CLAIMS_NUMBER, offers.descriptor)
    peer.send(AttachClaims(CLAIMS_NUMBER))
    peer.send(load())
    assert isinstance(peer.receive(), Loaded)
    tensor = Tensor("x", "INT32", (1,), memoryview(bytes(4)))
    offers.offer(1)
    offers.offer(2)
    assert offers.take_back() == 1

    for batch in (1, 2):
        peer.send(Execute(batch, [messages.Request(batch, [tensor], ["y"])], ahead=True))

    message = peer.receive()
    assert isinstance(message, Executed)
    assert message.batch == 2
    assert offers.take_back() is None
    stop(peer, worker)
    offers.close()


def test_batches_run_over_shared_memory_in_the_order_in_which_they_came(
    peer: Peer, worker: Background, backend: type[Fake]
) -> None:
    inputs = peer.attach(5, 4 * CHUNK_BYTES)
    peer.attach(0, 4 * CHUNK_BYTES)
    peer.send(load())
    assert isinstance(peer.receive(), Loaded)
    count = 100_000
    numbers = np.arange(count, dtype=np.int32)
    inputs.view(64, numbers.nbytes)[:] = numbers.tobytes()
    tensor = Tensor("x", "INT32", (count,), Span(5, 64, numbers.nbytes))

    for batch in range(1, 21):
        peer.send(Execute(batch, [messages.Request(batch, [tensor], ["y"])]))
        peer.send(Trim())

    for batch in range(1, 21):
        message = peer.receive()
        assert isinstance(message, Executed)
        (response,) = message.responses
        assert (message.batch, response.key, response.error) == (batch, batch, None)
        (output,) = response.outputs
        assert peer.data_of(output) == (numbers * 2).tobytes()
        assert isinstance(output.data, Span)
        peer.send(Release([output.data.offset]))
    stop(peer, worker)


def test_a_worker_that_is_told_to_stop_answers_first_what_goes_on(
    peer: Peer, worker: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: queue.SimpleQueue[tuple[Request, Callable[[], None]]] = queue.SimpleQueue()

    class Together(RequestBackend):
        """Executes several batches at once; the test ends them."""

        concurrency = 2

        def load(self, model: Model) -> None:
            pass

        def unload(self) -> None:
            pass

        def execute(self, requests: Sequence[Request]) -> Sequence[Response | None]:
            return [Response() for _ in requests]

        def begin(self, requests: Sequence[Request], done: Callable[[], None]) -> Finish:
            begun.put((requests[0], done))
            return partial(self.execute, requests)

    def backend_class(_name: str, _model: Model) -> type[Backend]:
        return Together

    monkeypatch.setattr(registry, "backend_class", backend_class)
    peer.send(load())
    loaded = peer.receive()
    assert isinstance(loaded, Loaded)
    assert loaded.concurrency == 2
    for batch in (1, 2):
        peer.send(Execute(batch, [messages.Request(batch, [], ["y"])]))
    (first, end_first), (_, end_second) = [begun.get(timeout=TIMEOUT) for _ in range(2)]
    peer.send(Stop())
    peer.send(Trim())
    peer.send(messages.Cancel([first.key]))
    eventually(first.is_cancelled, "what was sent before has arrived as well")

    end_second()
    end_first()

    executed = [peer.receive(), peer.receive()]
    assert [one.batch for one in executed if isinstance(one, Executed)] == [2, 1]
    assert peer.receive() == Stopped()
    worker.result()


def test_a_lifeline_that_is_cut_ends_the_worker(peer: Peer, worker: Background) -> None:
    peer.lifeline.close()
    peer.send(messages.AttachArena(1, CHUNK_BYTES))

    with pytest.raises(ConnectionError, match="the supervisor closed the lifeline"):
        worker.result()
