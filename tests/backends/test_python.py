"""Tests for tritonpy.worker.python.backend: model.py files, driven as the worker drives them."""

from __future__ import annotations

import gc
import json
import logging
import queue
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError, StatusError, UnsupportedError
from tritonpy.ipc.messages import Instance
from tritonpy.worker.backend import Model, Request, Response
from tritonpy.worker.python.backend import PythonBackend

PREAMBLE = """
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def read(request, name="IN"):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def answer(array, name="OUT"):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array)])


"""

ECHO = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer(read(request)) for request in requests]
"""

DECOUPLED = {"model_transaction_policy": {"decoupled": True}}


class Repository:
    """One model's folder, and the backends that were made on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "m"
        self.version = self.folder / "1"
        self.version.mkdir(parents=True)
        self.backends: list[PythonBackend] = []

    def model(self, config: dict[str, Any] | None = None, **fields: Any) -> Model:
        arguments: dict[str, Any] = {
            "name": "m",
            "version": 1,
            "directory": str(self.folder),
            "version_directory": str(self.version),
            "config": {"name": "m", "backend": "python", **(config or {})},
            "instance": Instance("m_0_0", "CPU", 0, 1),
            "backend_config": {},
        }
        return Model(**{**arguments, **fields})

    def write(self, source: str, name: str = "1/model.py", preamble: str = PREAMBLE) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(preamble + textwrap.dedent(source))

    def load(self, source: str, config: dict[str, Any] | None = None) -> PythonBackend:
        self.write(source)
        backend = self.backend()
        backend.load(self.model(config))
        return backend

    def backend(self) -> PythonBackend:
        backend = PythonBackend()
        self.backends.append(backend)
        return backend


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A model's folder; afterwards the interpreter has forgotten what was imported from it."""
    path, modules = list(sys.path), set(sys.modules)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    repository = Repository(tmp_path)
    yield repository
    for backend in repository.backends:
        backend.unload()
    sys.dont_write_bytecode = bytecode
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.split(".")[0].isdecimal() or _lies_in(name, tmp_path):
            del sys.modules[name]
    sys.modules.pop("triton_python_backend_utils", None)
    sys.path_importer_cache.clear()


def _lies_in(name: str, folder: Path) -> bool:
    return str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(folder))


class Client:
    """Makes requests, and receives what leaves outside of execute's result."""

    def __init__(self) -> None:
        self.responses: queue.SimpleQueue[tuple[int, Response | None, bool]] = queue.SimpleQueue()
        self.cancelled = threading.Event()

    def request(self, key: int = 1, **fields: Any) -> Request:
        def respond(response: Response | None, final: bool) -> None:
            self.responses.put((key, response, final))

        arguments: dict[str, Any] = {
            "key": key,
            "id": f"r{key}",
            "inputs": {"IN": np.array([float(key)])},
            "outputs": ["OUT"],
            "parameters": {},
            "correlation_id": 0,
            "flags": 0,
            "priority": 0,
            "timeout_us": 0,
            "respond": respond,
            "is_cancelled": self.cancelled.is_set,
        }
        return Request(**{**arguments, **fields})

    def next(self) -> tuple[int, Any, bool]:
        """The next response: its request, its first output or its error, whether it is final."""
        key, response, final = self.responses.get(timeout=30)
        return key, None if response is None else content(response), final

    @property
    def idle(self) -> bool:
        return self.responses.empty()


@pytest.fixture
def client() -> Client:
    return Client()


def content(response: Response | None) -> Any:
    assert response is not None
    if response.error is not None:
        return response.error.message
    return response.outputs["OUT"].tolist()


def failure(reason: str) -> str:
    return f"Failed to process the request(s) for model 'm_0_0', message: {reason}"


# --- execute, the plain way ----------------------------------------------------------------------


def test_each_request_of_a_batch_is_answered(repository: Repository, client: Client) -> None:
    backend = repository.load(ECHO)

    responses = backend.execute([client.request(1), client.request(2)])

    assert [content(response) for response in responses] == [[1.0], [2.0]]
    assert client.idle


def test_inputs_are_the_server_s_own_memory_and_may_be_written(
    repository: Repository, client: Client
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            array = read(request)
            array /= 2
        return [answer(array)]
""")
    array = np.array([4.0])
    (response,) = backend.execute([client.request(inputs={"IN": array})])

    assert array.tolist() == [2.0]
    assert response is not None
    assert response.outputs["OUT"] is array


def test_an_absent_optional_input_is_none(repository: Repository, client: Client) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        missing = pb_utils.get_input_tensor_by_name(requests[0], "OPTIONAL")
        return [answer(np.array([missing is None]))]
""")

    assert content(backend.execute([client.request()])[0]) == [True]


def test_outputs_that_were_not_asked_for_are_dropped(
    repository: Repository, client: Client
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.Tensor(name, np.zeros(1)) for name in ("EXTRA", "OUT", "MORE")]
        return [pb_utils.InferenceResponse(tensors, parameters={"k": 1}) for _ in requests]
""")
    some, all_of_them = backend.execute(
        [client.request(1), client.request(2, outputs=["MORE", "OUT"])]
    )

    assert some is not None
    assert all_of_them is not None
    assert list(some.outputs) == ["OUT"]
    assert some.parameters == {"k": 1}
    assert list(all_of_them.outputs) == ["OUT", "MORE"]


def test_an_error_fails_its_request_alone(repository: Repository, client: Client) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        error = pb_utils.TritonError("odd", pb_utils.TritonError.INVALID_ARG)
        refusal = pb_utils.InferenceResponse(error=error)
        arrays = [read(request) for request in requests]
        return [refusal if array[0] % 2 else answer(array) for array in arrays]
""")
    odd, even = backend.execute([client.request(1), client.request(2)])

    assert odd is not None
    assert isinstance(odd.error, InvalidArgumentError)
    assert odd.error.message == "odd"
    assert content(even) == [2.0]


def test_a_model_that_removes_requests_from_its_list_still_answers_all(
    repository: Repository, client: Client
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        while requests:
            responses.append(answer(read(requests.pop(0))))
        return responses
""")

    responses = backend.execute([client.request(1), client.request(2)])
    assert [content(response) for response in responses] == [[1.0], [2.0]]


def test_a_coroutine_is_awaited(repository: Repository, client: Client) -> None:
    backend = repository.load("""
import asyncio

class TritonPythonModel:
    async def execute(self, requests):
        arrays = await asyncio.gather(*[asyncio.to_thread(read, request) for request in requests])
        return [answer(array) for array in arrays]
""")

    responses = backend.execute([client.request(1), client.request(2)])
    assert [content(response) for response in responses] == [[1.0], [2.0]]


# --- execute, the wrong way ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("'text'", "Expected a list in the execute return, found type '<class 'str'>'."),
        ("(answer(np.zeros(1)),)", "Expected a list in the execute return, found type '<class 'tu"),
        (
            "[]",
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            "objects. InferenceRequest(s) size is:2, and InferenceResponse(s) size is:0",
        ),
        (
            "[answer(np.zeros(1)), 5]",
            "Expected an 'InferenceResponse' object in the execute function return list, found "
            "type '<class 'int'>'.",
        ),
    ],
)
def test_a_wrong_return_value_fails_the_whole_batch(
    repository: Repository, client: Client, returned: str, reason: str
) -> None:
    backend = repository.load(f"""
class TritonPythonModel:
    def execute(self, requests):
        return {returned}
""")

    for response in backend.execute([client.request(1), client.request(2)]):
        assert response is not None
        assert isinstance(response.error, InternalError)
        assert response.error.message.startswith(failure(reason))


def test_an_exception_is_one_line_to_the_client_and_a_traceback_in_the_log(
    repository: Repository, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("no such thing\\nTraceback follows")
""")

    (response,) = backend.execute([client.request()])

    assert content(response) == failure("ValueError: no such thing")
    assert "Traceback (most recent call last)" in caplog.text
    assert str(repository.version / "model.py") in caplog.text
    assert "worker/python" not in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise pb_utils.TritonModelException('mine')", "TritonModelException: mine"),
        ("raise KeyError('k')", "KeyError: 'k'"),
        ("raise RuntimeError", "RuntimeError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        (
            "pb_utils.Tensor('', np.zeros(1))",
            "TritonModelException: Tensor name cannot be an empty string.",
        ),
        (
            "requests[0].exec()",
            "TritonModelException: A request that a model has received cannot be sent on: make an "
            "InferenceRequest of its inputs.",
        ),
        (
            "pb_utils.MetricFamily('f', 'd', pb_utils.MetricFamily.COUNTER).Metric(labels=1)",
            "TritonModelException: Failed to create metric. Labels must be a dictionary.",
        ),
    ],
)
def test_each_exception_is_told_in_words(
    repository: Repository, client: Client, statement: str, reason: str
) -> None:
    backend = repository.load(f"""
class TritonPythonModel:
    def execute(self, requests):
        {statement}
""")

    assert content(backend.execute([client.request()])[0]) == failure(reason)


def test_a_model_serves_on_after_an_exception(repository: Repository, client: Client) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        assert read(requests[0])[0] != 1, "not one"
        return [answer(read(request)) for request in requests]
""")

    assert content(backend.execute([client.request(1)])[0]) == failure("AssertionError: not one")
    assert content(backend.execute([client.request(2)])[0]) == [2.0]


def test_an_exit_in_a_coroutine_fails_the_batch_and_not_the_loop(
    repository: Repository, client: Client
) -> None:
    backend = repository.load("""
import sys

class TritonPythonModel:
    async def execute(self, requests):
        if read(requests[0])[0] == 1:
            sys.exit(1)
        return [answer(read(request)) for request in requests]
""")

    assert "sys.exit(1)" in content(backend.execute([client.request(1)])[0])
    assert content(backend.execute([client.request(2)])[0]) == [2.0]


# --- response senders of a model that is not decoupled -------------------------------------------


def test_a_request_may_be_answered_by_its_sender(repository: Repository, client: Client) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        requests[0].get_response_sender().send(answer(read(requests[0])), FINAL)
        return [None, answer(read(requests[1]))]
""")

    first, second = backend.execute([client.request(1), client.request(2)])

    assert first is None
    assert content(second) == [2.0]
    assert client.next() == (1, [1.0], True)
    assert client.idle


def test_all_requests_may_be_answered_by_their_senders(
    repository: Repository, client: Client
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            sender.send(answer(read(request)))
            sender.send(flags=FINAL)
""")

    assert backend.execute([client.request(1), client.request(2)]) == [None, None]
    assert [client.next(), client.next()] == [(1, [1.0], True), (2, [2.0], True)]


def test_a_response_beside_the_sender_s_fails_the_other_requests(
    repository: Repository, client: Client
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        requests[0].get_response_sender().send(answer(read(requests[0])), FINAL)
        return [answer(read(request)) for request in requests]
""")

    first, second = backend.execute([client.request(1), client.request(2)])

    assert first is None
    assert content(second) == failure(
        "Unable to send response. Non-decoupled model cannot send more than one response."
    )


def test_an_exception_spares_requests_that_were_answered(
    repository: Repository, client: Client
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        requests[0].get_response_sender().send(answer(read(requests[0])), FINAL)
        raise ValueError("no")
""")

    first, second = backend.execute([client.request(1), client.request(2)])

    assert first is None
    assert content(second) == failure("ValueError: no")


def test_a_request_that_is_forgotten_is_failed(repository: Repository, client: Client) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        return [None, answer(read(requests[1]))]
""")

    first, second = backend.execute([client.request(1), client.request(2)])

    assert first is None
    assert content(second) == [2.0]
    assert client.next() == (
        1,
        failure("the model let go of the request without sending a response."),
        True,
    )


# --- decoupled -----------------------------------------------------------------------------------


def test_a_decoupled_model_answers_from_its_own_thread_after_execute(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
import threading

class TritonPythonModel:
    def initialize(self, args):
        self.returned = threading.Event()
        self.threads = []

    def execute(self, requests):
        for request in requests:
            arguments = (request.get_response_sender(), read(request)[0])
            self.threads.append(threading.Thread(target=self.count, args=arguments))
            self.threads[-1].start()

    def count(self, sender, count):
        self.returned.wait()
        for number in range(int(count)):
            sender.send(answer(np.array([number])))
        sender.send(flags=FINAL)

    def finalize(self):
        for thread in self.threads:
            thread.join()
""",
        DECOUPLED,
    )

    assert backend.execute([client.request(2), client.request(0)]) == [None, None]
    assert client.idle
    backend._python_model.returned.set()

    received = sorted((client.next() for _ in range(4)), key=lambda response: response[0])
    assert received == [(0, None, True), (2, [0], False), (2, [1], False), (2, None, True)]


def test_a_decoupled_model_must_return_none(repository: Repository, client: Client) -> None:
    backend = repository.load(ECHO, DECOUPLED)

    assert content(backend.execute([client.request()])[0]) == failure(
        "Python model 'm_0_0' is using the decoupled mode and the execute function must return "
        "None."
    )


def test_a_decoupled_model_s_exception_ends_what_is_open(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
class TritonPythonModel:
    def execute(self, requests):
        requests[0].get_response_sender().send(flags=FINAL)
        requests[1].get_response_sender().send(answer(read(requests[1])))
        raise ValueError("no")
""",
        DECOUPLED,
    )

    ended, begun, untouched = backend.execute([client.request(key) for key in (1, 2, 3)])

    assert ended is None
    assert content(begun) == content(untouched) == failure("ValueError: no")


def test_a_decoupled_coroutine_lets_further_batches_in(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
import asyncio

class TritonPythonModel:
    def __init__(self):
        self.second = asyncio.Event()

    async def execute(self, requests):
        key = read(requests[0])[0]
        if key == 1:
            await self.second.wait()
        else:
            self.second.set()
        requests[0].get_response_sender().send(answer(np.array([key])), FINAL)
""",
        DECOUPLED,
    )

    assert backend.execute([client.request(1)]) == [None]
    assert backend.execute([client.request(2)]) == [None]
    assert sorted([client.next(), client.next()]) == [(1, [1.0], True), (2, [2.0], True)]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        (
            "return []",
            "Python model 'm_0_0' is using the decoupled mode and the execute function must "
            "return None.",
        ),
    ],
)
def test_a_decoupled_coroutine_s_failure_ends_its_requests(
    repository: Repository, client: Client, statement: str, reason: str
) -> None:
    backend = repository.load(
        f"""
class TritonPythonModel:
    async def execute(self, requests):
        {statement}
""",
        DECOUPLED,
    )

    assert backend.execute([client.request(1)]) == [None]
    assert client.next() == (1, failure(reason), True)


def test_unloading_ends_the_requests_of_a_running_coroutine(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
import asyncio

class TritonPythonModel:
    async def execute(self, requests):
        await asyncio.Event().wait()
""",
        DECOUPLED,
    )
    backend.execute([client.request(1)])
    backend.unload()

    assert client.next() == (1, failure("the model is being unloaded"), True)


def test_a_sender_that_is_dropped_in_a_dying_thread_ends_the_request(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
import threading

class TritonPythonModel:
    def execute(self, requests):
        senders = [request.get_response_sender() for request in requests]
        self.thread = threading.Thread(target=self.work, args=(senders.pop(), read(requests[0])))
        self.thread.start()

    def work(self, sender, array):
        sender.send(answer(array))
        return  # the author forgot the final flag

    def finalize(self):
        self.thread.join()
""",
        DECOUPLED,
    )

    backend.execute([client.request(1)])
    assert client.next() == (1, [1.0], False)
    backend._python_model.thread.join()
    gc.collect()
    assert client.next() == (1, None, True)


def test_a_running_model_sees_the_cancellation(repository: Repository, client: Client) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        error = pb_utils.TritonError("stopped early", pb_utils.TritonError.CANCELLED)
        gone = requests[0].is_cancelled() and requests[0].get_response_sender().is_cancelled()
        return [pb_utils.InferenceResponse(error=error) if gone else answer(read(requests[0]))]
""")

    assert content(backend.execute([client.request()])[0]) == [1.0]
    client.cancelled.set()
    assert content(backend.execute([client.request()])[0]) == "stopped early"


# --- load and unload -----------------------------------------------------------------------------


def test_initialize_is_told_everything_as_text(repository: Repository, client: Client) -> None:
    repository.write("""
class TritonPythonModel:
    def initialize(self, args):
        self.args = args
    def execute(self, requests):
        pass
""")
    backend = repository.backend()
    backend.load(repository.model({"max_batch_size": 8}, instance=Instance("m_1_0", "GPU", 0, 1)))

    args = backend._python_model.args
    config = json.loads(args.pop("model_config"))
    assert config == {"name": "m", "backend": "python", "max_batch_size": 8}
    assert args == {
        "model_instance_kind": "GPU",
        "model_instance_name": "m_1_0",
        "model_instance_device_id": "0",
        "model_repository": str(repository.folder),
        "model_version": "1",
        "model_name": "m",
    }


def test_finalize_is_called_and_its_exception_only_logged(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def execute(self, requests):
        pass
    def finalize(self):
        pb_utils.Logger.log_warn("good night")
        raise ValueError("not tired")
""")
    backend.unload()

    assert "good night" in caplog.text
    assert "Finalizing model 'm_0_0' failed" in caplog.text
    assert "ValueError: not tired" in caplog.text


def test_a_model_logs_with_its_own_file_and_line(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tritonpy.model")
    repository.load("""
class TritonPythonModel:
    def initialize(self, args):
        pb_utils.Logger.log_info("hello from initialize")
    def execute(self, requests):
        pass
""")

    (record,) = caplog.records
    assert record.pathname == str(repository.version / "model.py")
    assert record.funcName == "initialize"


def test_what_lies_beside_the_model_can_be_imported(repository: Repository, client: Client) -> None:
    repository.write("ONE = 1", "1/tritonpy_test_sibling.py", "")
    repository.write("TWO = 2", "tritonpy_test_shared.py", "")
    repository.write("THREE = 3", "1/parts/__init__.py", "")
    backend = repository.load("""
import tritonpy_test_sibling, tritonpy_test_shared
from . import tritonpy_test_sibling as relative
from .parts import THREE

class TritonPythonModel:
    def execute(self, requests):
        assert __name__ == "1.model"
        numbers = [tritonpy_test_sibling.ONE, tritonpy_test_shared.TWO, THREE, relative.ONE]
        return [answer(np.array(numbers)) for _ in requests]
""")

    assert content(backend.execute([client.request()])[0]) == [1, 2, 3, 1]


def test_a_version_folder_may_be_a_package(repository: Repository, client: Client) -> None:
    repository.write("NUMBER = 7", "1/__init__.py", "")
    backend = repository.load("""
from . import NUMBER

class TritonPythonModel:
    def execute(self, requests):
        return [answer(np.array([NUMBER])) for _ in requests]
""")

    assert content(backend.execute([client.request()])[0]) == [7]


def test_the_model_s_file_may_have_another_name(repository: Repository, client: Client) -> None:
    repository.write(ECHO, "1/served.py")
    backend = repository.backend()
    backend.load(repository.model({"default_model_filename": "served.py"}))

    assert content(backend.execute([client.request()])[0]) == [1.0]


def test_the_model_knows_its_folder(repository: Repository) -> None:
    backend = repository.load("""
class TritonPythonModel:
    def __init__(self):
        self.folder = pb_utils.get_model_dir()
    def execute(self, requests):
        pass
""")

    assert backend._python_model.folder == str(repository.version)


def load_failure(repository: Repository, source: str) -> StatusError:
    with pytest.raises(StatusError) as raised:
        repository.load(source)
    assert "\n" not in raised.value.message
    return raised.value


def test_a_syntax_error_is_named_with_its_line(repository: Repository) -> None:
    error = load_failure(
        repository, "class TritonPythonModel:\n    def execute(self requests): pass"
    )

    assert isinstance(error, InternalError)
    line = PREAMBLE.count("\n") + 2
    assert error.message == (
        f"SyntaxError: invalid syntax (model.py, line {line}), at "
        f"{repository.version / 'model.py'}({line})"
    )


def test_a_failing_import_is_named_with_its_line(repository: Repository) -> None:
    error = load_failure(repository, "import tritonpy_test_nowhere")

    assert error.message == (
        "ModuleNotFoundError: No module named 'tritonpy_test_nowhere', at "
        f"{repository.version / 'model.py'}({PREAMBLE.count(chr(10)) + 1}): <module>"
    )


@pytest.mark.parametrize("statement", ["raise ValueError('no weights')", "int('no weights')"])
def test_an_exception_in_initialize_is_named_with_its_line(
    repository: Repository, statement: str
) -> None:
    error = load_failure(
        repository,
        f"""
class TritonPythonModel:
    def initialize(self, args):
        {statement}
    def execute(self, requests):
        pass
""",
    )

    assert error.message.startswith("ValueError: ")
    assert "no weights" in error.message
    line = PREAMBLE.count("\n") + 4
    assert error.message.endswith(f", at {repository.version / 'model.py'}({line}): initialize")


def test_an_exit_in_initialize_fails_the_load(repository: Repository) -> None:
    error = load_failure(
        repository,
        """
class TritonPythonModel:
    def initialize(self, args):
        raise SystemExit(2)
    def execute(self, requests):
        pass
""",
    )

    assert error.message.startswith("SystemExit: 2, at ")


def test_a_missing_class_is_named(repository: Repository) -> None:
    error = load_failure(repository, "class PythonModel: pass")

    assert error.message == (
        f"Python model {repository.version / 'model.py'} does not define the class "
        "`TritonPythonModel`."
    )


def test_a_missing_execute_is_named(repository: Repository) -> None:
    error = load_failure(repository, "class TritonPythonModel: pass")

    assert error.message == (
        f"Python model {repository.version / 'model.py'} does not implement `execute` method."
    )


def test_a_missing_file_is_named(repository: Repository) -> None:
    with pytest.raises(InternalError, match=r"^Python model file not found in '.*/1/model\.py'$"):
        repository.backend().load(repository.model())


def test_a_parameter_that_cannot_be_honoured_is_refused(repository: Repository) -> None:
    message = "FORCE_CPU_ONLY_INPUT_TENSORS: maybe; expected"
    repository.write(ECHO)
    parameters = {"FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": "maybe"}}
    model = repository.model({"parameters": parameters})
    with pytest.raises(UnsupportedError, match=message):
        repository.backend().load(model)
    with pytest.raises(UnsupportedError, match=message):
        repository.backend().describe(model)


# --- auto-completion -----------------------------------------------------------------------------


def describe(repository: Repository, source: str, **config: Any) -> dict[str, Any]:
    repository.write(source)
    return repository.backend().describe(repository.model(config))


def test_a_model_completes_its_configuration(repository: Repository) -> None:
    completed = describe(
        repository,
        """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        assert pb_utils.get_model_dir()
        config.set_max_batch_size(4)
        config.set_dynamic_batching()
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [1]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [1]})
        return config
""",
        instance_group=[{"count": 2}],
    )

    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    assert completed == {
        "name": "m",
        "backend": "python",
        "instance_group": [{"count": 2}],
        "max_batch_size": 4,
        "dynamic_batching": {},
        "input": [{"name": "IN", **tensor}],
        "output": [{"name": "OUT", **tensor}],
    }


def test_a_model_that_completes_nothing_keeps_its_configuration(repository: Repository) -> None:
    assert describe(repository, ECHO) == {"name": "m", "backend": "python"}


def test_a_contradiction_is_named_with_its_line(repository: Repository) -> None:
    with pytest.raises(InternalError) as raised:
        describe(
            repository,
            """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(2)
""",
            max_batch_size=8,
        )

    assert raised.value.message.startswith(
        "ValueError: configuration specified max_batch_size 8, but in auto-complete-config "
        "function for model 'm' specified max_batch_size 2, at "
    )
    assert raised.value.message.endswith(": auto_complete_config")


def test_a_completion_that_returns_nothing_is_refused(repository: Repository) -> None:
    with pytest.raises(
        InternalError,
        match=(
            "^auto_complete_config function in model 'm' must return a valid pb.ModelConfig "
            r"object\.$"
        ),
    ):
        describe(
            repository,
            """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        pass
""",
        )


def test_a_described_model_is_imported_once(repository: Repository) -> None:
    repository.write("""
print("imported")

class TritonPythonModel:
    def execute(self, requests):
        pass
""")
    script = f"""
from tritonpy.ipc.messages import Instance
from tritonpy.worker.backend import Model
from tritonpy.worker.python.backend import PythonBackend

model = Model("m", 1, {str(repository.folder)!r}, {str(repository.version)!r}, {{"name": "m"}},
              Instance("m_0_0", "CPU", 0, 1), {{}})
backend = PythonBackend()
backend.describe(model)
backend.load(model)
backend.unload()
"""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "imported\n", "")


# --- who may see what ----------------------------------------------------------------------------


def test_two_threads_may_send_through_one_sender(repository: Repository, client: Client) -> None:
    backend = repository.load(
        """
import threading

class TritonPythonModel:
    def execute(self, requests):
        sender = requests[0].get_response_sender()
        threads = [
            threading.Thread(target=lambda: [sender.send(answer(np.zeros(1))) for _ in range(50)])
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sender.send(flags=FINAL)
""",
        DECOUPLED,
    )
    backend.execute([client.request()])

    finals = [client.next()[2] for _ in range(101)]
    assert finals == [False] * 100 + [True]
    assert client.idle


def test_the_backend_hands_out_writable_inputs_and_is_not_repeatable() -> None:
    assert PythonBackend.writes_inputs
    assert not PythonBackend.pure


# --- rescheduling ---------------------------------------------------------------------------------

AGAIN = """
AGAIN = pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            request.set_release_flags(AGAIN)
        return {returned}
"""


@pytest.mark.parametrize("returned", ["None", "[None] * len(requests)"])
def test_a_request_can_be_put_back_to_come_again(
    repository: Repository, client: Client, returned: str
) -> None:
    backend = repository.load(AGAIN.format(returned=returned))
    request = client.request()

    assert backend.execute([request]) == [None]

    assert request.reschedule
    gc.collect()
    backend.unload()  # sends what was forgotten: this was not
    assert client.idle


def test_a_rescheduled_request_must_not_be_answered(repository: Repository, client: Client) -> None:
    backend = repository.load(AGAIN.format(returned="[answer(read(r)) for r in requests]"))
    request = client.request()

    (response,) = backend.execute([request])

    assert content(response) == failure(
        "Expected a None object in the execute function return list for reschduled request, found "
        "type '<class 'c_python_backend_utils.InferenceResponse'>'."
    )
    assert not request.reschedule


def test_a_decoupled_request_may_be_answered_in_part_and_come_again(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
        class TritonPythonModel:
            def execute(self, requests):
                for request in requests:
                    sender = request.get_response_sender()
                    sender.send(answer(read(request)))
                    request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                self.sender = sender

            def finalize(self):
                try:
                    self.sender.send(flags=FINAL)
                except Exception as error:
                    print(error, flush=True)
        """,
        DECOUPLED,
    )
    request = client.request()

    assert backend.execute([request]) == [None]

    assert client.next() == (1, [1.0], False)
    assert request.reschedule
    backend.unload()
    assert client.idle


def test_a_request_that_was_answered_does_not_come_again(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
        class TritonPythonModel:
            def execute(self, requests):
                for request in requests:
                    request.get_response_sender().send(answer(read(request)))
                    request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
        """
    )
    request = client.request()

    (response,) = backend.execute([request])

    assert content(response) == [1.0]
    assert not request.reschedule


def test_a_coroutine_of_a_decoupled_model_cannot_reschedule(
    repository: Repository, client: Client
) -> None:
    backend = repository.load(
        """
        class TritonPythonModel:
            async def execute(self, requests):
                for request in requests:
                    request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
        """,
        DECOUPLED,
    )

    backend.execute([client.request()])

    key, message, final = client.next()
    assert (key, final) == (1, True)
    assert "a request can be rescheduled only until execute returns" in message
