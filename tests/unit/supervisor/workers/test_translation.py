"""What crosses to a worker is what the client asked, and what comes back is told as it was."""

from __future__ import annotations

from support.fakes import Asker, fp32, identity_request

from tritonpy.ipc.errors import UnsupportedError
from tritonpy.ipc.messages import Error, ModelFiles, Request, Response
from tritonpy.supervisor.workers.translation import request_message, response_of

FILES = ModelFiles("m", 7, "/r/m", "/r/m/7")


def test_a_request_keeps_everything_that_a_model_may_ask_for() -> None:
    request = identity_request(id="r1")
    request.parameters = {"a": 1}
    request.correlation_id, request.flags = "s", 3
    request.priority, request.timeout_us = 2, 500
    work = Asker().work(request)

    assert request_message(work) == Request(
        work.key, request.inputs, ["OUTPUT0"], "r1", {"a": 1}, "s", 3, 2, 500
    )


def test_a_response_names_the_version_that_gave_it() -> None:
    work = Asker().work(id="r1")
    answer = Response(work.key, [fp32("OUTPUT0")], False, None, {"p": True})

    response = response_of(work, answer, FILES)

    assert (response.model, response.version, response.id) == ("m", 7, "r1")
    assert response.outputs == answer.outputs
    assert response.parameters == {"p": True}
    assert response.error is None
    assert response.final is False


def test_an_error_keeps_its_code() -> None:
    work = Asker().work()

    response = response_of(work, Response(work.key, [], True, Error("UNSUPPORTED", "no")), FILES)

    assert isinstance(response.error, UnsupportedError)
    assert response.error.message == "no"
