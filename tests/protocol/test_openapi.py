"""A running server answers what its OpenAPI document says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support import models
from support.clients import Answer, ask, get, post_json
from support.servers import RunningServer, serving

_NAMES = {"version": "1", "region": "r", "repository": "x"}
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain")
    models.identity(repository, "idle")
    models.python_model(repository, "broken", "no Python", models.identity_config())
    arguments = [
        "--model-control-mode=explicit",
        "--load-model=plain",
        "--load-model=broken",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: RunningServer) -> Any:
    answer = get(server, "/v2/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


def asked(server: RunningServer, method: str, path: str) -> Answer:
    model = "idle" if path.endswith("/unload") else "plain"
    path = path.format(model=model, **_NAMES)
    return ask(server, method, path, b"" if method == "GET" else b"{}")


def check(document: Any, schema: Any, value: object) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def json_schema(responses: Mapping[str, Any]) -> Any:
    return responses["200"].get("content", {}).get("application/json", {}).get("schema")


def test_every_documented_operation_is_answered_as_its_schema_says(
    server: RunningServer, document: Any
) -> None:
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            answer = asked(server, method.upper(), path)
            where = f"{method} {path}: {answer}"
            if answer.status == 200:
                schema = json_schema(item[method]["responses"])
                assert (schema is None) == (not answer.body), where
                if schema is not None:
                    check(document, schema, answer.json)
            elif str(answer.status) in item[method]["responses"]:
                assert not answer.body, where
            else:
                assert (answer.status, answer.body) not in (
                    (404, b'{"error":"Not Found"}'),
                    (405, b'{"error":"Method Not Allowed"}'),
                ), where
                check(document, document["components"]["schemas"]["Error"], answer.json)


def test_other_methods_are_not_allowed(server: RunningServer, document: Any) -> None:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method.lower() not in item:
                answer = asked(server, method, path)
                assert answer.status in (405, 501), f"{method} {path}: {answer}"


def test_answers_of_inference_are_as_documented(server: RunningServer, document: Any) -> None:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [2], "data": [1, 2]}
    request = {"id": "a", "inputs": [tensor]}
    schemas = document["components"]["schemas"]
    check(document, schemas["InferRequest"], request)
    answer = post_json(server, "/v2/models/plain/infer", request)
    check(document, schemas["InferResponse"], answer.json)


def test_all_models_are_listed_with_their_states(server: RunningServer) -> None:
    broken, idle, plain = get(server, "/v2/models").json["models"]
    assert idle == {"name": "idle", "versions": []}
    assert plain == {
        "name": "plain",
        "versions": [{"version": "1", "state": "READY", "reason": ""}],
    }
    assert broken["name"] == "broken"
    (version,) = broken["versions"]
    assert (version["version"], version["state"]) == ("1", "UNAVAILABLE")
    assert "SyntaxError" in version["reason"]


def test_the_document_names_no_machine(document: Any) -> None:
    assert "servers" not in document
    assert "127.0.0.1" not in json.dumps(document)
