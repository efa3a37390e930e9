"""Models that call others: the examples of Triton's documentation, and what they do not show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import callers, models
from support.callers import infer, run
from support.clients import copied, get
from support.ensembles import add_one, ensemble, step
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Small enough that spans which are not given back fill the arenas soon.
ARENA = 64 << 20
LARGE = 16 << 20

#: Says what it sees of a request.
SEEN = """
    import json
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            told = [request.request_id(), request.correlation_id(), request.flags(),
                    request.timeout(), json.loads(request.parameters())]
            tensor = pb_utils.Tensor("OUT", np.array([json.dumps(told)], np.object_))
            return pb_utils.InferenceResponse([tensor], parameters={"answered": True})
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    callers.add_sub(path)
    callers.add_sub_by(path, "bls_sync", callers.SYNC, named=True)
    callers.add_sub_by(path, "bls_async", callers.ASYNC)
    callers.decoupled_square(path)
    callers.of_integer(path, "bls_decoupled_sync", callers.DECOUPLED_SYNC)
    callers.of_integer(path, "bls_decoupled_async", callers.DECOUPLED_ASYNC)
    callers.scripted(path, "script")
    callers.scripted(path, "async_script", coroutine=True)
    add_one(path, "add_one")
    models.python_model(path, "seen", SEEN, models.identity_config("TYPE_STRING"))
    maps = ({"IN": "IN"}, {"OUT": "x"}), ({"IN": "x"}, {"OUT": "OUT"})
    pair = [step("add_one", inputs, outputs) for inputs, outputs in maps]
    ensemble(path, "add_two", ["IN FP32 -1"], ["OUT FP32 -1"], pair)
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serving(repository, arguments=[f"--arena-byte-size={ARENA}"]) as running:
        yield running


SIX = np.arange(6, dtype=np.float32)
BIG = np.arange(LARGE // 4, dtype=np.float32)


# --- the examples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [SIX, BIG[: 1 << 16]], ids=["small", "large"])
def test_a_model_has_another_one_answer(server: RunningServer, data: Any) -> None:
    asked = {"INPUT0": data, "INPUT1": data * 3, "MODEL_NAME": "add_sub"}
    found = infer(server, "bls_sync", asked)
    np.testing.assert_array_equal(found["OUTPUT0"], data * 4)
    np.testing.assert_array_equal(found["OUTPUT1"], data * -2)


def test_an_unknown_model_is_an_error_that_the_model_reads(server: RunningServer) -> None:
    asked = {"INPUT0": SIX, "INPUT1": SIX, "MODEL_NAME": "undefined_model"}
    message = "Model undefined_model - Error when running inference: Failed for execute the "
    message += "inference request. Model 'undefined_model' is not ready."
    with pytest.raises(InferenceServerException, match=message):
        infer(server, "bls_sync", asked)


@pytest.mark.parametrize("data", [SIX, BIG[: 1 << 16]], ids=["small", "large"])
def test_a_coroutine_has_others_answer_at_a_time(server: RunningServer, data: Any) -> None:
    found = infer(server, "bls_async", {"INPUT0": data, "INPUT1": data * 3})
    np.testing.assert_array_equal(found["OUTPUT0"], data * 4)
    np.testing.assert_array_equal(found["OUTPUT1"], data * -2)


@pytest.mark.parametrize("value", [0, 1, 9])
def test_all_responses_of_a_decoupled_model_are_iterated(server: RunningServer, value: int) -> None:
    given = {"IN": np.array([value], np.int32)}
    assert infer(server, "bls_decoupled_sync", given)["OUT"].tolist() == [value**2]
    assert infer(server, "bls_decoupled_async", given)["OUT"].tolist() == [2 * value**2]


def test_a_model_calls_an_ensemble(server: RunningServer) -> None:
    assert run(server, "script", "found = call('add_two', 5)") == [[7.0]]


# --- ways to call ---------------------------------------------------------------------------------


def test_threads_that_execute_joins_may_call(server: RunningServer) -> None:
    code = """
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda value: call("add_one", value), range(20)))
"""
    assert run(server, "script", code) == [[[value + 1.0]] for value in range(20)]


def test_threads_may_have_event_loops_of_their_own(server: RunningServer) -> None:
    code = """
async def ask(value):
    calls = [request("add_one", value + n).async_exec() for n in range(3)]
    return [told(answer) for answer in await asyncio.gather(*calls)]
with ThreadPoolExecutor(3) as pool:
    found = list(pool.map(lambda value: asyncio.run(ask(value)), (10, 20, 30)))
"""
    wanted = [[[[value + n + 1.0]] for n in range(3)] for value in (10, 20, 30)]
    assert run(server, "script", code) == wanted


def test_a_coroutine_may_have_very_many_calls_under_way(server: RunningServer) -> None:
    code = """
calls = [request("add_one", value).async_exec() for value in range(300)]
found = sum([told(answer)[0][0] for answer in await asyncio.gather(*calls)])
"""
    assert run(server, "async_script", code) == 300 * 301 / 2


def test_a_coroutine_may_call_in_threads_and_block(server: RunningServer) -> None:
    code = """
loop = asyncio.get_running_loop()
in_thread = loop.run_in_executor(None, call, "add_one", 1)
found = [call("add_one", 2), await in_thread, await asyncio.to_thread(call, "add_one", 3)]
"""
    assert run(server, "async_script", code) == [[[3.0]], [[2.0]], [[4.0]]]


def test_a_call_is_sent_when_it_is_made_not_when_it_is_awaited(server: RunningServer) -> None:
    code = """
begun = request("square", 2, kind=np.int32).async_exec(decoupled=True)
first = request("add_one", 1).async_exec()
while not first.done():
    await asyncio.sleep(0)
found = told(first.result())
for answer in await begun:
    found += told(answer)
"""
    assert run(server, "async_script", code) == [[2.0], [2], [2]]


def test_a_cancelled_await_leaves_the_others_alone(server: RunningServer) -> None:
    code = """
calls = [request("add_one", value).async_exec() for value in range(4)]
calls[1].cancel()
answers = await asyncio.gather(*calls, return_exceptions=True)
found = [type(a).__name__ if isinstance(a, BaseException) else told(a) for a in answers]
"""
    assert run(server, "async_script", code) == [[[1.0]], "CancelledError", [[3.0]], [[4.0]]]


def test_without_an_event_loop_there_is_nothing_to_await(server: RunningServer) -> None:
    code = """
try:
    request("add_one").async_exec()
except RuntimeError as error:
    found = str(error)
"""
    assert run(server, "script", code) == "no running event loop"


# --- what is said in a request --------------------------------------------------------------------


def test_everything_that_a_request_says_arrives(server: RunningServer) -> None:
    code = """
more = dict(request_id="r7", correlation_id="s", flags=3, timeout=9000000,
            parameters={"a": True, "b": -3, "c": "x"})
answer = request("seen", np.array(["x"], np.object_), **more).exec()
found = [json.loads(told(answer)[0][0]), json.loads(answer.parameters())]
"""
    said = ["r7", "s", 3, 9000000, {"a": True, "b": -3, "c": "x"}]
    assert run(server, "script", code) == [said, {"answered": True}]


def test_outputs_that_are_not_asked_for_are_not_returned(server: RunningServer) -> None:
    code = """
tensors = [pb_utils.Tensor(name, np.ones(2, np.float32)) for name in ("INPUT0", "INPUT1")]
def names(*wanted):
    one = pb_utils.InferenceRequest(model_name="add_sub", inputs=tensors,
                                    requested_output_names=list(wanted))
    answer = one.exec()
    return [t.name() for t in answer.output_tensors()] or answer.error().message()
found = [names("OUTPUT1"), sorted(names()), names("NOPE")]
"""
    refused = "Model add_sub - Error when running inference: unexpected inference output 'NOPE' for"
    found = run(server, "script", code)
    assert found[:2] == [["OUTPUT1"], ["OUTPUT0", "OUTPUT1"]]
    assert found[2].startswith(refused)


# --- decoupled ------------------------------------------------------------------------------------


def test_responses_can_be_iterated_again(server: RunningServer) -> None:
    code = """
answers = request("square", 3, kind=np.int32).exec(decoupled=True)
found = [[told(answer) for answer in answers] for _ in range(2)]
"""
    assert run(server, "script", code) == [[[[3]], [[3]], [[3]], []]] * 2


def test_a_decoupled_model_is_not_called_as_another(server: RunningServer) -> None:
    found = run(server, "script", "found = call('square', 3, kind=np.int32)")
    assert found.startswith("Model square - Error when running inference: Model square is using ")
    assert "Please use 'decoupled=True'" in found


def test_another_model_may_be_called_as_a_decoupled_one(server: RunningServer) -> None:
    code = 'found = [told(one) for one in request("add_one", 1).exec(decoupled=True)]'
    assert run(server, "script", code) == [[[2.0]]]


# --- memory ---------------------------------------------------------------------------------------


def test_the_server_copies_nothing_of_what_models_say_to_each_other(server: RunningServer) -> None:
    code = f"""
data = np.arange({LARGE // 4}, dtype=np.float32)
found = []
for model in ("add_one", "add_two"):
    answer = request(model, data).exec().output_tensors()[0].as_numpy()
    found.append([float(answer[0]), float(answer[-1]), answer.nbytes])
"""
    into, out = copied(server)
    last = float(LARGE // 4 - 1)
    wanted = [[1.0, np.float32(last + 1), LARGE], [2.0, np.float32(last + 2), LARGE]]
    assert run(server, "script", code) == wanted
    after = copied(server)
    assert after[0] == into
    assert after[1] - out < 1000, "more than the text of the answer"


def test_answers_are_read_in_place_and_may_be_written(server: RunningServer) -> None:
    code = """
array = request("add_one", np.zeros(1 << 16, np.float32)).exec().output_tensors()[0].as_numpy()
array += 1
found = [array.flags.owndata, array.flags.writeable, float(array.sum())]
"""
    assert run(server, "script", code) == [False, True, 2.0 * (1 << 16)]


def test_what_was_read_is_given_back(server: RunningServer) -> None:
    code = f"""
data = np.zeros({LARGE // 4}, np.float32)
found = 0
for _ in range(12):
    for model in ("add_one", "add_two"):
        found += float(request(model, data).exec().output_tensors()[0].as_numpy()[0])
"""
    assert run(server, "script", code) == 12 * 3.0


def test_a_dropped_iterator_gives_back_what_comes(server: RunningServer) -> None:
    code = f"""
data = np.zeros({LARGE // 4}, np.float32)
for _ in range(12):
    request("add_one", data).exec(decoupled=True)
found = told(request("add_one", 1).exec())
"""
    assert run(server, "script", code) == [[2.0]]


def test_an_answer_may_be_kept_after_the_request(server: RunningServer) -> None:
    keep = 'args["kept"] = request("add_one", np.zeros(1 << 16, np.float32)).exec(); found = 0'
    assert run(server, "script", keep) == 0
    assert run(server, "script", 'call("add_one", np.ones(1 << 16, np.float32)); found = 0') == 0
    code = 'found = float(args.pop("kept").output_tensors()[0].as_numpy().sum())'
    assert run(server, "script", code) == 1 << 16


# --- counting -------------------------------------------------------------------------------------


def test_a_call_is_counted_as_a_request_of_a_client(server: RunningServer) -> None:
    def count() -> int:
        statistics = get(server, "/v2/models/add_sub/stats").json["model_stats"][0]
        number = statistics["inference_stats"]["success"]["count"]
        assert isinstance(number, int)
        return number

    before = count()
    infer(server, "bls_sync", {"INPUT0": SIX, "INPUT1": SIX, "MODEL_NAME": "add_sub"})
    assert count() == before + 1
