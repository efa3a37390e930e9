"""Models that misbehave in the way that a request names, and a model beside them that must not
notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from . import models
from .clients import (
    eventually,
    get,
    grpc_stub,
    infer_request,
    input_tensor,
    post_json,
    statistics,
)
from .servers import RunningServer

#: What each request names; everything else is answered with an echo.
DEEDS = """
    import ctypes, os, resource, signal, subprocess, sys, threading, time

    import numpy as np

    hoard = []

    def segfault():
        ctypes.string_at(0)

    def abort():
        os.abort()

    def leave():
        os._exit(3)

    def exit():
        sys.exit(3)

    def raise_error():
        raise ValueError("no")

    def stop():
        os.kill(os.getpid(), signal.SIGSTOP)

    def wait():
        threading.Event().wait()

    def wait_with_the_gil():
        ctypes.PyDLL(None).pause()

    def spin():
        while True:
            pass

    def hoard_memory():
        while True:
            hoard.append(b"x" * (8 << 20))
            time.sleep(0.005)

    def hoard_memory_in_children():
        for _ in range(4):
            if not os.fork():
                hoard.append(b"x" * (150 << 20))
                signal.pause()
        wait()

    def want_too_much():
        hoard.append(np.empty(3 << 30, np.uint8))

    def hoard_files():
        limit = len(os.listdir("/proc/self/fd")) + 50
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        while True:
            hoard.append(open("/dev/null"))

    def flood():
        line = b"y" * 200 + b"\\n"
        while True:
            os.write(1, line * 20)
            os.write(2, line * 20)

    def flood_without_lines():
        while True:
            os.write(1, b"y" * 60000)

    def recurse():
        recurse()

    def recurse_natively():
        nested = ()
        for _ in range(1 << 20):
            nested = (nested,)
        hash(nested)

    def fork():
        for number in range(3):
            if not os.fork():
                signal.pause()
        hoard.append(subprocess.Popen(["sleep", "1000"], start_new_session=True))

    def fork_and_return():
        os.fork()

    def fork_and_leave():
        fork()
        os._exit(3)

    def do(name):
        action = globals().get(name)
        if action is not None and name != "do":
            action()
"""

#: Answers once, after it has done what the request names.
EXECUTE = """
    import triton_python_backend_utils as pb_utils
    from deeds import do

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                names = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                do(names.ravel()[0].decode())
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", names)]))
            return responses
"""

#: Sends two responses from a thread of its own, does what the request names, and sends a third.
STREAM = """
    import threading

    import triton_python_backend_utils as pb_utils
    from deeds import do

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                names = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().copy()
                sender = request.get_response_sender()
                threading.Thread(target=self.stream, args=(sender, names), daemon=True).start()

        def stream(self, sender, names):
            response = pb_utils.InferenceResponse([pb_utils.Tensor("OUT", names)])
            sender.send(response)
            sender.send(response)
            do(names.ravel()[0].decode())
            sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def parameter(name: str, value: object) -> str:
    """A parameter of a configuration."""
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'


#: Limits that the deeds exceed soon, and nothing else does. A model has one of them, since a busy
#: machine may take long to fill the memory.
EXECUTION = parameter("execution_timeout_secs", 3)
MEMORY = parameter("memory_limit_byte_size", 300 << 20)


def culprit(
    repository: Path,
    name: str,
    code: str = EXECUTE,
    *,
    batch: int = 0,
    limits: Sequence[str] = (),
    more: str = "",
) -> Path:
    """A model of texts with this code, which may `import deeds`."""
    config = models.identity_config(
        "TYPE_STRING", dims=[1], max_batch_size=batch, more="\n".join((*limits, more))
    )
    folder = models.python_model(repository, name, code, config)
    models.write(folder / "1" / "deeds.py", DEEDS)
    return folder


def named(deed: str, shape: Sequence[int] = (1,)) -> npt.NDArray[np.object_]:
    """The input that asks for a deed."""
    return np.full(shape, deed.encode(), np.object_)


Floats = npt.NDArray[np.float32]


@dataclass
class Load:
    """What the bystander was asked until now."""

    asked: int = 0
    wrong: list[str] = field(default_factory=list[str])
    enough: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def by_http(self, server: RunningServer, model: str) -> None:
        """Ask over HTTP until told to stop."""
        with httpclient.InferenceServerClient(server.http, network_timeout=60) as client:
            tensor = httpclient.InferInput("IN", [4], "FP32")

            def ask(values: Floats) -> Floats:
                tensor.set_data_from_numpy(values)
                return _floats(client.infer(model, [tensor]).as_numpy("OUT"))

            self._ask(ask, 0)

    def by_grpc(self, server: RunningServer, model: str) -> None:
        """Ask over gRPC until told to stop."""
        with grpcclient.InferenceServerClient(server.grpc) as client:
            tensor = grpcclient.InferInput("IN", [4], "FP32")

            def ask(values: Floats) -> Floats:
                tensor.set_data_from_numpy(values)
                return _floats(client.infer(model, [tensor], client_timeout=60).as_numpy("OUT"))

            self._ask(ask, 1 << 20)

    def _ask(self, ask: Callable[[Floats], Floats], first: int) -> None:
        number = first
        while not self._stop.wait(0.005):
            number += 1
            values = np.arange(number, number + 4, dtype=np.float32)
            try:
                answer = ask(values)
            except Exception as error:
                self.wrong.append(f"{number}: {error!r}")
            else:
                if not np.array_equal(answer, values):
                    self.wrong.append(f"{number}: {answer}")
            with self._lock:
                self.asked += 1

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()


def _floats(out: npt.NDArray[Any] | None) -> Floats:
    assert out is not None
    return out.astype(np.float32)


@contextmanager
def unharmed_bystander(server: RunningServer, model: str = "bystander") -> Iterator[Load]:
    """While the block runs, the bystander is asked over HTTP and gRPC; each request is answered
    once, and rightly, by the process that was there before.
    """
    before = int(statistics(server, model)["inference_count"])
    workers = [worker.pid for worker in server.workers(model)]
    load = Load()
    threads = [
        threading.Thread(target=ask, args=(server, model)) for ask in (load.by_http, load.by_grpc)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join(90)
    assert not load.wrong, load.wrong[:5]
    assert load.asked > 0
    assert int(statistics(server, model)["inference_count"]) - before == load.asked
    assert [worker.pid for worker in server.workers(model)] == workers


# --- loading and asking ---------------------------------------------------------------------------


@contextmanager
def loaded(server: RunningServer, name: str) -> Iterator[None]:
    """A model that is loaded for a while, with what it needs; its processes end with it."""
    answer = post_json(server, f"/v2/repository/models/{name}/load", {})
    assert answer.status == 200, answer.body
    try:
        yield
    finally:
        path = f"/v2/repository/models/{name}/unload"
        post_json(server, path, {"parameters": {"unload_dependents": True}})
        eventually(lambda: not server.workers(name), f"the processes of '{name}' have ended")


def is_ready(server: RunningServer, model: str) -> bool:
    """What the server says of the model."""
    return get(server, f"/v2/models/{model}/ready").status == 200


def ask(server: RunningServer, model: str, deed: str = "nothing", **more: Any) -> str:
    """Have the model do something, and return what it answers."""
    names = named(deed, (1, 1) if model == "sequence" else (1,))
    tensor = httpclient.InferInput("IN", list(names.shape), "BYTES")
    tensor.set_data_from_numpy(names)
    with httpclient.InferenceServerClient(server.http, network_timeout=60) as client:
        out = client.infer(model, [tensor], **more).as_numpy("OUT")
    assert out is not None
    return str(out.ravel()[0].decode())


def refusal(server: RunningServer, model: str, deed: str, **more: Any) -> str:
    """The error with which the model's deed is answered."""
    try:
        answer = ask(server, model, deed, **more)
    except InferenceServerException as error:
        return told(error)
    raise AssertionError(f"'{deed}' was answered: {answer}")


def told(error: InferenceServerException) -> str:
    """The status and the words of an error."""
    return f"{error.status()} {without_id(error.message())}"


def without_id(message: str) -> str:
    """The words of an error, without the id that its request does not have."""
    return message.removeprefix("[request id: <id_unknown>] ")


def stream(server: RunningServer, model: str, deed: str = "nothing") -> tuple[int, str]:
    """Have a decoupled model do something: how many responses came, and then which error."""
    request = infer_request(
        model, [input_tensor("IN", "BYTES", [1])], [serialize_byte_tensor(named(deed)).item()]
    )
    responses, message = 0, ""
    with grpc_stub(server) as stub:
        for answer in stub.ModelStreamInfer(iter([request]), timeout=60):
            if answer.error_message:
                message = without_id(answer.error_message)
            else:
                responses += 1
    return responses, message
