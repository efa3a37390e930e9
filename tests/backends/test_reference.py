"""identity, repeat and square behave as Triton's backends of these names."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tritonpy.ipc.dtypes import DATATYPES, numpy_dtype, to_config
from tritonpy.ipc.errors import (
    InvalidArgumentError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
)
from tritonpy.ipc.messages import Instance
from tritonpy.worker.backend import Array, Backend, Model, Request, Response
from tritonpy.worker.backends.reference import IdentityBackend, RepeatBackend, SquareBackend

Config = dict[str, Any]
#: Changes to a configuration, and what is said about the result.
Edits = list[tuple[Callable[[Config], Any], str]]


def tensor(name: str, data_type: str, dims: list[int], **more: Any) -> Config:
    return {"name": name, "data_type": data_type, "dims": dims, **more}


def model(config: Config, instance: str = "m_0_0") -> Model:
    return Model("m", 1, "/r/m", "/r/m/1", config, Instance(instance, "CPU", 0, 1), {})


def parameters(**values: object) -> Config:
    return {key: {"string_value": str(value)} for key, value in values.items()}


class Client:
    """Sends requests and collects what is answered outside of execute's result."""

    def __init__(self) -> None:
        self.answers: queue.SimpleQueue[tuple[Response | None, bool]] = queue.SimpleQueue()
        self.cancelled = False

    def request(self, inputs: dict[str, Array], outputs: Sequence[str]) -> Request:
        def respond(response: Response | None, final: bool) -> None:
            self.answers.put((response, final))

        return Request(
            1, "", inputs, list(outputs), {}, 0, 0, 0, 0, respond, lambda: self.cancelled
        )

    def responses(self) -> list[Response | None]:
        """Everything up to and with the final response."""
        received: list[Response | None] = []
        final = False
        while not final:
            response, final = self.answers.get(timeout=30)
            received.append(response)
        return received


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def load() -> Any:
    """Loads backends, unloads them in the end, and sees that no thread is left."""
    backends: list[Backend] = []
    before = set(threading.enumerate())

    def load(backend: Any, config: Config, instance: str = "m_0_0") -> Any:
        backend.load(model(config, instance))
        backends.append(backend)
        return backend

    yield load
    for backend in backends:
        backend.unload()
    assert set(threading.enumerate()) <= before


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleeping takes no time, but is noted."""
    noted: list[float] = []
    monkeypatch.setattr(time, "sleep", noted.append)
    return noted


def numbers(*values: int, dtype: Any = np.int32) -> Array:
    return np.array(values, dtype)


# --- identity -------------------------------------------------------------------------------------


def pairs(*data_types: str, dims: list[int] | None = None, **more: Any) -> Config:
    dims = [2] if dims is None else dims
    return {
        "input": [tensor(f"INPUT{n}", each, dims) for n, each in enumerate(data_types)],
        "output": [tensor(f"OUTPUT{n}", each, dims) for n, each in enumerate(data_types)],
        **more,
    }


@pytest.mark.parametrize("datatype", DATATYPES)
def test_identity_answers_with_its_input_of_any_datatype(
    datatype: str, load: Any, client: Client
) -> None:
    backend = load(IdentityBackend(), pairs(to_config(datatype)))
    array = np.zeros(2, numpy_dtype(datatype))
    (response,) = backend.execute([client.request({"INPUT0": array}, ["OUTPUT0"])])
    assert response.error is None
    assert response.outputs["OUTPUT0"] is array


def test_identity_attaches_four_parameters_of_four_types(load: Any, client: Client) -> None:
    backend = load(IdentityBackend(), pairs("TYPE_INT32"))
    (response,) = backend.execute([client.request({"INPUT0": numbers(1, 2)}, ["OUTPUT0"])])
    assert response.parameters == {
        "param0": "an example string parameter",
        "param1": 42,
        "param2": False,
        "param3": 123.123,
    }


def test_identity_answers_only_the_outputs_that_were_asked_for(load: Any, client: Client) -> None:
    backend = load(IdentityBackend(), pairs("TYPE_INT32", "TYPE_FP32"))
    inputs = {"INPUT0": numbers(1, 2), "INPUT1": np.zeros(2, np.float32)}
    requests = [client.request(inputs, ["OUTPUT1"]), client.request(inputs, ["OUTPUT0"])]
    first, second = backend.execute(requests)
    assert list(first.outputs) == ["OUTPUT1"]
    assert list(second.outputs) == ["OUTPUT0"]


@pytest.mark.parametrize(
    ("max_batch_size", "inputs", "shape"),
    [(0, {"INPUT1": numbers(1)}, (2, 1)), (4, {"INPUT1": np.zeros((3, 1))}, (3, 2, 1))],
)
def test_identity_answers_zeros_for_an_absent_optional_input(
    max_batch_size: int,
    inputs: dict[str, Array],
    shape: tuple[int, ...],
    load: Any,
    client: Client,
) -> None:
    config = pairs("TYPE_INT32", "TYPE_INT32", dims=[2, -1], max_batch_size=max_batch_size)
    config["input"][0]["optional"] = True
    (response,) = load(IdentityBackend(), config).execute([client.request(inputs, ["OUTPUT0"])])
    assert response.outputs["OUTPUT0"].shape == shape
    assert response.outputs["OUTPUT0"].dtype == np.int32
    assert not response.outputs["OUTPUT0"].any()


def test_an_absent_optional_input_has_the_shape_that_the_model_sees(
    load: Any, client: Client
) -> None:
    config = pairs("TYPE_INT32", dims=[2, 3], max_batch_size=0)
    config["input"][0] |= {"optional": True, "reshape": {"shape": [6]}}
    config["output"][0]["reshape"] = {"shape": [6]}
    (response,) = load(IdentityBackend(), config).execute([client.request({}, ["OUTPUT0"])])
    assert response.outputs["OUTPUT0"].shape == (6,)


def test_identity_reports_an_input_that_is_absent(load: Any, client: Client) -> None:
    backend = load(IdentityBackend(), pairs("TYPE_INT32", "TYPE_INT32"))
    requests = [
        client.request({"INPUT0": numbers(1, 2)}, ["OUTPUT1"]),
        client.request({"INPUT0": numbers(1, 2)}, ["OUTPUT0"]),
    ]
    failed, fine = backend.execute(requests)
    assert isinstance(failed.error, UnsupportedError)
    assert failed.error.message == "failed to get input 'INPUT1'"
    assert fine.error is None


@pytest.mark.parametrize(
    ("instance", "more", "seconds"),
    [
        ("m_0_3", {}, 0.2),
        ("m_0_0", {"instance_wise_delay_multiplier": 2}, 0.2),
        ("m_0_3", {"instance_wise_delay_multiplier": 2}, 1.2),
    ],
)
def test_identity_delays_each_execution_by_its_parameters(
    instance: str,
    more: Config,
    seconds: float,
    load: Any,
    client: Client,
    sleeps: list[float],
) -> None:
    config = pairs("TYPE_INT32", parameters=parameters(execute_delay_ms=200, **more))
    backend = load(IdentityBackend(), config, instance)
    sleeps.clear()
    request = client.request({"INPUT0": numbers(1, 2)}, ["OUTPUT0"])
    backend.execute([request, request])
    assert sleeps == [pytest.approx(seconds)]


def test_identity_delays_its_load(load: Any, sleeps: list[float]) -> None:
    load(IdentityBackend(), pairs("TYPE_INT32", parameters=parameters(creation_delay_sec=7)))
    assert sleeps == [7]


IDENTITY_EDITS: Edits = [
    (lambda c: c["output"].pop(), "must have equal input/output pairs"),
    (
        lambda c: c["input"][0].update(name="x"),
        "expected input name to follow INPUT<index> pattern, got 'x'",
    ),
    (
        lambda c: c["output"][0].update(name="y"),
        "expected output name to follow OUTPUT<index> pattern, got 'y'",
    ),
    (
        lambda c: c["output"][0].update(name="OUTPUT7"),
        "expected input and output indices to match",
    ),
    (
        lambda c: c["output"][0].update(data_type="TYPE_FP32"),
        "expected input and output datatype to match, got TYPE_INT32 and TYPE_FP32",
    ),
    (
        lambda c: c["output"][0].update(dims=[3]),
        "expected input and output shape to match, got [2] and [3]",
    ),
    (
        lambda c: c.update(parameters=parameters(execute_delay_ms="soon")),
        "parameter 'execute_delay_ms' is 'soon', expected a whole number",
    ),
]


@pytest.mark.parametrize(("edit", "message"), IDENTITY_EDITS)
def test_identity_refuses_a_configuration_that_is_not_its_own(
    edit: Callable[[Config], Any], message: str, load: Any
) -> None:
    config = pairs("TYPE_INT32")
    edit(config)
    with pytest.raises(InvalidArgumentError) as raised:
        load(IdentityBackend(), config)
    assert raised.value.message.startswith("model 'm': ")
    assert message in raised.value.message


def test_identity_compares_reshaped_tensors_by_their_graph_shape(load: Any) -> None:
    config = pairs("TYPE_INT32", dims=[4])
    config["input"][0]["reshape"] = {"shape": [2, 2]}
    config["output"][0]["dims"] = [2, 2]
    assert load(IdentityBackend(), config)


# --- repeat ---------------------------------------------------------------------------------------


def repeat_config() -> Config:
    return {
        "backend": "repeat",
        "max_batch_size": 0,
        "input": [
            tensor("IN", "TYPE_INT32", [-1]),
            tensor("DELAY", "TYPE_UINT32", [-1]),
            tensor("WAIT", "TYPE_UINT32", [1]),
        ],
        "output": [tensor("OUT", "TYPE_INT32", [1]), tensor("IDX", "TYPE_UINT32", [1])],
        "model_transaction_policy": {"decoupled": True},
    }


def repeat_request(
    client: Client, elements: Array, delays: Array, wait: int = 0, outputs: Sequence[str] = ()
) -> Request:
    inputs = {
        "IN": elements,
        "DELAY": delays.astype(np.uint32),
        "WAIT": numbers(wait, dtype=np.uint32),
    }
    return client.request(inputs, outputs or ["OUT", "IDX"])


def test_repeat_sends_one_response_an_element_and_then_ends(load: Any, client: Client) -> None:
    backend = load(RepeatBackend(), repeat_config())
    elements = numbers(7, -8, 9)
    assert backend.execute([repeat_request(client, elements, numbers(0, 1, 0))]) == [None]
    elements[:] = 0  # the inputs belong to the request only until execute returns
    *answers, end = client.responses()
    assert end is None
    assert [each.outputs["OUT"].tolist() for each in answers if each] == [[7], [-8], [9]]
    assert [each.outputs["IDX"].tolist() for each in answers if each] == [[0], [1], [2]]
    assert answers[0] is not None
    assert answers[0].outputs["OUT"].dtype == np.int32
    assert answers[0].outputs["IDX"].dtype == np.uint32


def test_repeat_ends_at_once_without_elements(load: Any, client: Client) -> None:
    backend = load(RepeatBackend(), repeat_config())
    backend.execute([repeat_request(client, numbers(), numbers())])
    assert client.responses() == [None]


def test_repeat_sends_only_the_outputs_that_were_asked_for(load: Any, client: Client) -> None:
    backend = load(RepeatBackend(), repeat_config())
    backend.execute([repeat_request(client, numbers(5), numbers(0), outputs=["IDX"])])
    first, _ = client.responses()
    assert first is not None
    assert list(first.outputs) == ["IDX"]


def test_repeat_holds_the_instance_while_it_waits(
    load: Any, client: Client, sleeps: list[float]
) -> None:
    backend = load(RepeatBackend(), repeat_config())
    backend.execute([repeat_request(client, numbers(1), numbers(0), wait=250)])
    assert sleeps == [0.25]
    client.responses()


def test_repeat_returns_before_its_responses_are_out(load: Any, client: Client) -> None:
    backend = load(RepeatBackend(), repeat_config())
    assert backend.execute([repeat_request(client, numbers(1), numbers(60_000))]) == [None]
    assert client.answers.empty()


def test_repeat_refuses_a_request_whose_shapes_differ(load: Any, client: Client) -> None:
    backend = load(RepeatBackend(), repeat_config())
    (response,) = backend.execute([repeat_request(client, numbers(1, 2), numbers(0))])
    assert isinstance(response.error, InvalidArgumentError)
    assert response.error.message == "expected IN and DELAY shape to match, got [2] and [1]"
    assert client.answers.empty()


def test_repeat_stops_for_a_client_that_has_gone(load: Any, client: Client) -> None:
    backend = load(RepeatBackend(), repeat_config())
    client.cancelled = True
    backend.execute([repeat_request(client, numbers(1, 2, 3), numbers(0, 0, 0))])
    assert client.responses() == [None]


def test_unloading_repeat_ends_its_threads_with_an_error(client: Client) -> None:
    backend = RepeatBackend()
    backend.load(model(repeat_config()))
    before = set(threading.enumerate())
    backend.execute([repeat_request(client, numbers(1), numbers(3_600_000))])
    backend.unload()
    assert set(threading.enumerate()) <= before
    (response,) = client.responses()
    assert response is not None
    assert isinstance(response.error, UnavailableError)
    assert response.error.message == "model 'm' was unloaded before it had answered"


REPEAT_EDITS: Edits = [
    (
        lambda c: c.update(max_batch_size=1),
        "repeat backend only supports models with max_batch_size == 0",
    ),
    (lambda c: c["input"].pop(), "expected 3 inputs, got 2"),
    (lambda c: c["output"].pop(), "expected 2 outputs, got 1"),
    (
        lambda c: c["input"][2].update(name="HOLD"),
        "expected input tensor names to be IN, DELAY, WAIT, got IN, DELAY, HOLD",
    ),
    (
        lambda c: c["input"][0].update(data_type="TYPE_INT64"),
        "expected IN datatype to be INT32, got TYPE_INT64",
    ),
    (
        lambda c: c["input"][0].update(dims=[2, 2]),
        "expected IN shape to have one dimension, got [2, 2]",
    ),
    (
        lambda c: c["input"][1].update(dims=[4]),
        "expected IN and DELAY shape to match, got [-1] and [4]",
    ),
    (lambda c: c["input"][2].update(dims=[2]), "expected WAIT shape to be [1], got [2]"),
    (lambda c: c["output"][1].update(dims=[2]), "expected IDX shape to be [1], got [2]"),
    (
        lambda c: c.pop("model_transaction_policy"),
        "set model_transaction_policy { decoupled: true }",
    ),
]


@pytest.mark.parametrize(("edit", "message"), REPEAT_EDITS)
def test_repeat_refuses_a_configuration_that_is_not_its_own(
    edit: Callable[[Config], Any], message: str, load: Any
) -> None:
    config = repeat_config()
    edit(config)
    with pytest.raises(InvalidArgumentError) as raised:
        load(RepeatBackend(), config)
    assert message in raised.value.message


# --- square ---------------------------------------------------------------------------------------


def square_config(**custom: object) -> Config:
    return {
        "backend": "square",
        "input": [tensor("IN", "TYPE_INT32", [1])],
        "output": [tensor("OUT", "TYPE_INT32", [1])],
        "model_transaction_policy": {"decoupled": True},
        "parameters": parameters(**custom),
    }


@pytest.mark.parametrize(("number", "count"), [(3, 3), (0, 0), (-4, 0)])
def test_square_answers_a_number_as_often_as_it_says(
    number: int, count: int, load: Any, client: Client
) -> None:
    backend = load(SquareBackend(), square_config())
    array = numbers(number)
    assert backend.execute([client.request({"IN": array}, ["OUT"])]) == [None]
    array[:] = 0
    *answers, end = client.responses()
    assert end is None
    assert [each.outputs["OUT"].tolist() for each in answers if each] == [[number]] * count


def test_square_keeps_the_batch_dimension_of_a_single_row(load: Any, client: Client) -> None:
    backend = load(SquareBackend(), square_config())
    backend.execute([client.request({"IN": np.array([[1]], np.int32)}, ["OUT"])])
    answer, _ = client.responses()
    assert answer is not None
    assert answer.outputs["OUT"].tolist() == [[1]]


def test_square_answers_the_requests_of_a_batch_each_for_itself(load: Any) -> None:
    backend = load(SquareBackend(), square_config())
    clients = [Client() for _ in range(3)]
    requests = [each.request({"IN": numbers(n)}, ["OUT"]) for n, each in enumerate(clients)]
    assert backend.execute(requests) == [None] * 3
    assert [len(each.responses()) for each in clients] == [1, 2, 3]


def test_square_refuses_more_than_one_row(load: Any, client: Client) -> None:
    backend = load(SquareBackend(), square_config())
    (response,) = backend.execute([client.request({"IN": np.ones((2, 1), np.int32)}, ["OUT"])])
    assert isinstance(response.error, InvalidArgumentError)


def test_square_simulates_failures_and_missing_responses(load: Any, client: Client) -> None:
    backend = load(SquareBackend(), square_config(CUSTOM_FAIL_COUNT=2, CUSTOM_EMPTY_COUNT=1))
    backend.execute([client.request({"IN": numbers(5)}, ["OUT"])])
    *answers, _ = client.responses()
    errors = [each.error for each in answers if each]
    assert errors[:2] == [None, None]
    assert [type(each) for each in errors[2:]] == [UnknownError, UnknownError]
    assert str(errors[2]) == "simulated failure"


def test_unloading_square_ends_its_threads(client: Client) -> None:
    backend = SquareBackend()
    backend.load(model(square_config(CUSTOM_INFER_DELAY_NS=10**13)))
    backend.execute([client.request({"IN": numbers(5)}, ["OUT"])])
    backend.unload()
    (response,) = client.responses()
    assert response is not None
    assert isinstance(response.error, UnavailableError)


SQUARE_EDITS: Edits = [
    (lambda c: c["input"].append(c["output"][0]), "expected 1 input, got 2"),
    (lambda c: c["input"][0].update(dims=[2]), "expected IN shape to be [1], got [2]"),
    (lambda c: c["output"][0].update(dims=[-1]), "expected OUT shape to be [1], got [-1]"),
    (lambda c: c.update(model_transaction_policy={}), "{ decoupled: true }"),
]


@pytest.mark.parametrize(("edit", "message"), SQUARE_EDITS)
def test_square_refuses_a_configuration_that_is_not_its_own(
    edit: Callable[[Config], Any], message: str, load: Any
) -> None:
    config = square_config()
    edit(config)
    with pytest.raises(InvalidArgumentError) as raised:
        load(SquareBackend(), config)
    assert message in raised.value.message
