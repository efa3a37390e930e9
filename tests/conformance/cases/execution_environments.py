"""Models that name an execution environment which is not there."""

from __future__ import annotations

from ..case import Area, Http
from ..setups import ENVIRONMENTS

AREAS = [
    Area(
        "execution environments",
        ENVIRONMENTS,
        [
            Http(f"load {model}", "POST", f"/v2/repository/models/{model}/load", b"{}")
            for model in ("unset", "missing", "missing_inside", "without_activate")
        ],
    )
]
