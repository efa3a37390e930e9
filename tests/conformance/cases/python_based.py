"""Backends that are a model.py in the backend directory."""

from __future__ import annotations

import json

from ..case import Area, Http, Step
from ..setups import BACKENDS

_ASK = json.dumps({"inputs": [{"name": "IN", "datatype": "BYTES", "shape": [1], "data": ["x"]}]})

_SERVED = ("plain", "with_own_file", "python_runtime", "named.teller", "python_with_library")
_REFUSED = (
    "python_runtime_missing", "other_runtime_missing", "library_runtime_missing", "outside",
    "of_native", "of_broken", "of_without_class", "of_empty", "of_nothing", "of_a_path",
    "python_with_runtime", "no_version",
)  # fmt: skip


def _load(model: str, normalise: tuple[str, ...] = ()) -> Http:
    path = f"/v2/repository/models/{model}/load"
    return Http(f"load {model}", "POST", path, b"{}", normalise=normalise)


def _served(model: str) -> list[Step]:
    return [
        _load(model),
        Http(f"{model}: infer", "POST", f"/v2/models/{model}/infer", _ASK.encode()),
        Http(f"{model}: metadata", "GET", f"/v2/models/{model}"),
        Http(f"{model}: config", "GET", f"/v2/models/{model}/config"),
    ]


AREAS = [
    Area(
        "python-based backends",
        BACKENDS,
        [
            *(step for model in _SERVED for step in _served(model)),
            # Each server says in words of its own what is wrong.
            *(_load(model, ("without_reason",)) for model in _REFUSED),
        ],
    )
]
