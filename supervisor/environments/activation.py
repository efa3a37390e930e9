"""What activating an environment does to the variables of a process."""

from __future__ import annotations

import os
from collections.abc import Mapping


def activated(variables: Mapping[str, str], tree: str, *, is_conda: bool) -> dict[str, str]:
    """The variables as the environment's own `activate` leaves them; no script is run."""
    active = dict(variables)
    active["VIRTUAL_ENV"] = tree
    active["VIRTUAL_ENV_PROMPT"] = os.path.basename(tree)
    active["PATH"] = f"{tree}/bin:{active.get('PATH') or os.defpath}"
    libraries = active.get("LD_LIBRARY_PATH")
    active["LD_LIBRARY_PATH"] = f"{tree}/lib:{libraries}" if libraries else f"{tree}/lib"
    # They would lead to the standard library, or to the environment, that the server runs in.
    active.pop("PYTHONHOME", None)
    active.pop("CONDA_PREFIX", None)
    if is_conda:
        active["CONDA_PREFIX"] = tree
    return active
