"""The OpenAPI document says what the routes are, no less and no more."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from openapi_spec_validator import validate

from tritonpy.supervisor.http.app import App
from tritonpy.supervisor.http.openapi import document

DOCUMENT = json.loads(document("1.2.3"))
PATHS: dict[str, dict[str, Any]] = DOCUMENT["paths"]


@pytest.fixture
def app() -> App:
    anything = cast("Any", None)
    return App(anything, anything, anything, 0)


def operations(path: str) -> dict[str, Any]:
    return {method.upper(): item for method, item in PATHS[path].items() if method != "parameters"}


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_every_route_is_in_the_document_and_every_path_is_a_route(app: App) -> None:
    assert set(PATHS) == {path for path, _ in app.routes()}


def test_methods_and_access_categories_are_those_of_the_routes(app: App) -> None:
    for path, route in app.routes():
        found = operations(path)
        assert set(found) == ({route.method} if route.method else {"GET", "POST"}), path
        assert {tag for item in found.values() for tag in item["tags"]} == {route.category}, path


def test_every_schema_is_used() -> None:
    text = json.dumps(DOCUMENT)
    unused = [
        name
        for name in DOCUMENT["components"]["schemas"]
        if f'"#/components/schemas/{name}"' not in text
    ]
    assert not unused
