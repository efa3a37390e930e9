"""Every route of the HTTP service belongs to a group, and those that change something say so."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tritonpy.supervisor.access import Access, Policy
from tritonpy.supervisor.http.app import App

ROUTES = {
    "/v2": ("metadata", False),
    "/v2/health/live": ("health", False),
    "/v2/health/ready": ("health", False),
    "/v2/models/m": ("metadata", False),
    "/v2/models/m/versions/1": ("metadata", False),
    "/v2/models/m/ready": ("health", False),
    "/v2/models/m/config": ("model-config", False),
    "/v2/models/m/stats": ("statistics", False),
    "/v2/models/stats": ("statistics", False),
    "/v2/models/m/infer": ("inference", False),
    "/v2/models/m/versions/1/infer": ("inference", False),
    "/v2/models/m/generate": ("inference", False),
    "/v2/models/m/generate_stream": ("inference", False),
    "/v2/models/m/trace/setting": ("trace", True),
    "/v2/trace/setting": ("trace", True),
    "/v2/logging": ("logging", True),
    "/v2/systemsharedmemory/status": ("shared-memory", None),
    "/v2/systemsharedmemory/region/r/status": ("shared-memory", None),
    "/v2/systemsharedmemory/region/r/register": ("shared-memory", True),
    "/v2/systemsharedmemory/region/r/unregister": ("shared-memory", True),
    "/v2/systemsharedmemory/unregister": ("shared-memory", True),
    "/v2/cudasharedmemory/region/r/register": ("shared-memory", True),
    "/v2/cudasharedmemory/unregister": ("shared-memory", True),
    "/v2/repository/index": ("model-repository", False),
    "/v2/repository/other/index": ("model-repository", False),
    "/v2/repository/models/m/load": ("model-repository", True),
    "/v2/repository/models/m/unload": ("model-repository", True),
}


@pytest.mark.parametrize("path", ROUTES)
def test_a_route_belongs_to_its_group(path: str) -> None:
    nothing = cast("Any", None)
    app = App(nothing, nothing, Access(Policy(), {}, "API"), 1)
    found = app._find(path)
    assert found is not None
    category, changes = ROUTES[path]
    assert found[0].category == category
    if changes is not None:  # the status is read by GET alone, so its route may say either
        assert found[0].changes is changes
