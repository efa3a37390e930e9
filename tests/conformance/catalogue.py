"""All areas of cases."""

from __future__ import annotations

from .case import Area
from .cases import (
    calls,
    classification,
    datatypes,
    ensembles,
    execution_environments,
    generate,
    grpc_infer,
    health,
    infer_binary,
    infer_json,
    namespaces,
    parameters,
    python_backend,
    python_based,
    python_utilities,
    repository,
    response_cache,
    restricted,
    routes,
    senders,
    sequences,
    settings,
    shapes,
    shared_memory,
)

AREAS: list[Area] = [
    area
    for module in (
        health,
        routes,
        infer_json,
        datatypes,
        infer_binary,
        parameters,
        grpc_infer,
        classification,
        python_backend,
        python_utilities,
        python_based,
        execution_environments,
        senders,
        repository,
        namespaces,
        shared_memory,
        settings,
        generate,
        sequences,
        restricted,
        response_cache,
        ensembles,
        shapes,
        calls,
    )
    for area in module.AREAS
]
