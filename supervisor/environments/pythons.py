"""Which Python a requirements file is installed for."""

from __future__ import annotations

import os
import re
import shutil
import sys

from .failure import EnvironmentFailure

_VERSION = re.compile(r"3\.[0-9]+")


def find_python(wanted: str) -> str:
    """The path of an interpreter, by its path or version; "" is the server's own.

    Raises EnvironmentFailure when it is not on this machine.
    """
    if not wanted:
        return sys.executable
    if _VERSION.fullmatch(wanted):
        found = shutil.which(f"python{wanted}")
        if found is None:
            raise EnvironmentFailure(
                f"there is no python{wanted} on the server's PATH for it; install one, or name the "
                "path of another by the parameter EXECUTION_ENV_PYTHON"
            )
        return found
    if not os.path.isabs(wanted) or not os.access(wanted, os.X_OK):
        raise EnvironmentFailure(
            f"EXECUTION_ENV_PYTHON is '{wanted}', and must be a version, as 3.12, or the absolute "
            "path of an interpreter"
        )
    return wanted
