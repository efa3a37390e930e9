"""The door for models: calls are answered in Triton's words, whatever is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.fakes import Served, answer, fp32, identity_config, serve, until

from tritonpy.ipc.errors import NotFoundError, StatusError, UnavailableError
from tritonpy.ipc.messages import AskReady, Done, Error, LoadModel, UnloadModel
from tritonpy.supervisor.bls import BusinessLogic
from tritonpy.supervisor.config.schema import ModelConfig, ModelTransactionPolicy
from tritonpy.supervisor.dataplane import DataPlane
from tritonpy.supervisor.models.deployer import WITHIN_A_LOAD
from tritonpy.supervisor.models.model import ServedVersion
from tritonpy.supervisor.request import InferRequest, InferResponse
from tritonpy.supervisor.workers.calls import Control, ModelCall

pytestmark = pytest.mark.anyio


class Residents:
    """Models that are loaded on demand."""

    def __init__(self) -> None:
        self.used: list[str] = []
        self.released = 0
        self.loaded = asyncio.Event()
        self.error: StatusError | None = None

    def concerns(self, model: str) -> bool:
        return model == "lazy"

    async def use(self, model: str) -> Residents:
        self.used.append(model)
        await self.loaded.wait()
        if self.error is not None:
            raise self.error
        return self

    def release(self) -> None:
        self.released += 1


class Controls:
    """What is asked about models."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.error: StatusError | None = None
        #: Whether each load was asked for within another one.
        self.nested: list[bool] = []
        #: Loads of these models go on until the test says that they have ended.
        self.held: dict[str, asyncio.Event] = {}

    async def load(self, model: str, parameters: object) -> None:
        self._do("load", model, parameters)
        self.nested.append(WITHIN_A_LOAD.get())
        if model in self.held:
            await self.held[model].wait()

    async def unload(self, model: str, dependents: bool) -> None:
        self._do("unload", model, dependents)

    async def is_model_ready(self, model: str, version: int | None) -> bool:
        self._do("ready", model, version)
        return True

    def _do(self, *what: object) -> None:
        if self.error is not None:
            raise self.error
        self.done.append(what)


class Bench:
    """A door in front of versions without processes."""

    def __init__(self) -> None:
        self.serving: dict[str, Served] = {}
        self.residents = Residents()
        self.control = Controls()
        self.logic = BusinessLogic()
        self.routed = 0
        plane = DataPlane(self, residents=self.residents)  # type: ignore[arg-type]
        self.logic.open(plane, self.control)  # type: ignore[arg-type]
        self.responses: list[InferResponse] = []
        self.told: list[Done] = []

    def version(self, model: str, version: int | None) -> ServedVersion:
        if model not in self.serving:
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")
        return self.serving[model].version

    def labelled(self, model: str, label: str) -> int | None:
        return None

    def route(self, request: InferRequest) -> None:
        if request.version is None:
            self.routed += 1

    def serve(self, config: ModelConfig | None = None, instances: int = 1) -> Served:
        made = serve(config, instances=instances)
        self.serving[made.version.name] = made
        return made

    def call(self, model: str = "m", *, decoupled: bool = False) -> ModelCall:
        request = InferRequest(model, None, [fp32("INPUT0")], id="r")
        made = ModelCall(1, request, decoupled, self.responses.append)
        self.logic.infer(made)
        return made

    async def ask(self, question: Control, asker: str = "") -> Done:
        self.logic.control(question, asker, self.told.append)
        await until(lambda: bool(self.told))
        return self.told.pop()

    def error(self) -> str:
        (response,) = self.responses
        assert response.final
        assert response.error is not None
        assert response.error.code == "INTERNAL"
        return response.error.message

    async def close(self) -> None:
        await self.logic.close()
        for served in self.serving.values():
            await served.version.close(1.0)


@pytest.fixture
async def bench(anyio_backend: str) -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


def decoupled() -> ModelConfig:
    return identity_config(model_transaction_policy=ModelTransactionPolicy(decoupled=True))


async def test_a_call_runs_as_a_request_and_is_answered(bench: Bench) -> None:
    (fake,) = bench.serve().pool.fakes
    call = bench.call()
    await until(lambda: bool(fake.batches))
    assert call.work is fake.batches[0][0]
    assert bench.routed >= 1
    fake.finishes(fp32("OUTPUT0"))

    (response,) = bench.responses
    assert ([tensor.name for tensor in response.outputs], response.final) == (["OUTPUT0"], True)
    assert "<OpenCalls: 0>" in repr(bench.logic)


async def test_a_call_of_a_decoupled_model_has_every_response(bench: Bench) -> None:
    bench.serve(decoupled())
    (fake,) = bench.serving["m"].pool.fakes
    call = bench.call(decoupled=True)
    await until(lambda: bool(fake.batches))
    assert call.work is not None
    call.work.answer(InferResponse("m", 1, "r", [fp32("OUTPUT0")], final=False))
    assert "<OpenCalls: 1>" in repr(bench.logic)
    answer(call.work)

    assert [response.final for response in bench.responses] == [False, True]
    assert "<OpenCalls: 0>" in repr(bench.logic)
    fake.batches.clear()


async def test_what_is_wrong_is_told_in_triton_s_words(bench: Bench) -> None:
    bench.call("nope")
    assert bench.error() == (
        "Model nope - Error when running inference: Failed for execute the inference request. "
        "Model 'nope' is not ready."
    )
    bench.responses.clear()
    bench.serve(decoupled())
    bench.call()
    assert bench.error() == (
        "Model m - Error when running inference: Model m is using the decoupled. The current BLS "
        "request call doesn't support models using the decoupled transaction policy. Please use "
        "'decoupled=True' argument to the 'exec' or 'async_exec' calls for decoupled models.'"
    )
    bench.responses.clear()
    bench.serve(identity_config("other"))
    request = InferRequest("other", None, [fp32("NOPE")])
    bench.logic.infer(ModelCall(1, request, False, bench.responses.append))
    assert bench.error() == (
        "Model other - Error when running inference: unexpected inference input 'NOPE' for model "
        "'other'"
    )
    assert "<OpenCalls: 0>" in repr(bench.logic)


async def test_a_model_on_demand_is_loaded_first_and_kept_until_the_answer(bench: Bench) -> None:
    call = bench.call("lazy")
    await until(lambda: bool(bench.residents.used))
    (fake,) = bench.serve(identity_config("lazy")).pool.fakes
    assert call.work is None
    bench.residents.loaded.set()
    await until(lambda: bool(fake.batches))
    assert bench.residents.released == 0
    fake.finishes()

    assert bench.responses[0].error is None
    assert bench.residents.released == 1


async def test_a_model_that_cannot_be_loaded_on_demand_is_told(bench: Bench) -> None:
    bench.residents.loaded.set()
    bench.residents.error = UnavailableError("it is broken")
    bench.call("lazy")
    await until(lambda: bool(bench.responses))
    assert bench.error() == "Model lazy - Error when running inference: it is broken"

    bench.responses.clear()
    bench.residents.error = None
    bench.call("lazy")
    await until(lambda: bool(bench.responses))
    assert "is not ready" in bench.error()
    assert bench.residents.released == 1


async def test_a_call_that_was_given_up_meanwhile_is_cancelled(bench: Bench) -> None:
    call = bench.call("lazy")
    call.abandoned = True
    (fake,) = bench.serve(identity_config("lazy")).pool.fakes
    await until(lambda: bool(bench.residents.used))
    bench.residents.loaded.set()

    await until(lambda: bool(bench.responses))
    assert not fake.batches
    assert bench.residents.released == 1
    error = bench.responses[0].error
    assert error is not None
    assert error.code == "CANCELLED"


async def test_models_are_loaded_unloaded_and_asked_about(bench: Bench) -> None:
    files = {"file:1/model.py": b"x"}
    assert await bench.ask(LoadModel(1, "x", "{}", files)) == Done(1)
    assert await bench.ask(LoadModel(2, "x", "", {})) == Done(2)
    assert await bench.ask(UnloadModel(3, "x", True)) == Done(3)
    assert await bench.ask(AskReady(4, "x", "2")) == Done(4, True)
    assert await bench.ask(AskReady(5, "x", "")) == Done(5, True)

    assert bench.control.done == [
        ("load", "x", {**files, "config": "{}"}),
        ("load", "x", {}),
        ("unload", "x", True),
        ("ready", "x", 2),
        ("ready", "x", None),
    ]


async def test_what_goes_wrong_with_models_is_told(bench: Bench) -> None:
    bench.control.error = UnavailableError("not allowed")
    refused = Error("UNAVAILABLE", "not allowed")
    assert await bench.ask(LoadModel(1, "x", "", {})) == Done(1, error=refused)
    assert await bench.ask(UnloadModel(2, "x", False)) == Done(2, error=refused)
    assert await bench.ask(AskReady(3, "x", "")) == Done(3, False)
    wrong = await bench.ask(AskReady(4, "x", "new"))
    assert wrong.error is not None
    assert "specified version string 'new'" in wrong.error.message


async def test_models_that_load_each_other_while_they_are_loaded_are_told(bench: Bench) -> None:
    itself = await bench.ask(LoadModel(1, "a", "", {}), "a")
    assert itself.error is not None
    assert itself.error.message == (
        "model 'a' is being loaded, and 'a' waits for that: it would wait for ever"
    )
    bench.control.held = {"b": asyncio.Event(), "c": asyncio.Event()}
    ends: list[Done] = []
    bench.logic.control(LoadModel(2, "b", "", {}), "a", ends.append)
    bench.logic.control(LoadModel(3, "c", "", {}), "b", ends.append)
    await until(lambda: len(bench.control.done) == 2)

    circle = await bench.ask(UnloadModel(4, "a", False), "c")
    assert circle.error is not None
    assert circle.error.code == "UNAVAILABLE"
    assert await bench.ask(AskReady(5, "a", ""), "c") == Done(5, True)
    assert await bench.ask(LoadModel(6, "d", "", {}), "c") == Done(6)
    assert await bench.ask(LoadModel(7, "a", "", {})) == Done(7), "a model that serves"
    assert bench.control.nested == [True, True, True, False]
    for event in bench.control.held.values():
        event.set()
    await until(lambda: len(ends) == 2)
    bench.control.held = {}
    assert await bench.ask(UnloadModel(8, "a", False), "c") == Done(8), "nobody waits any more"
