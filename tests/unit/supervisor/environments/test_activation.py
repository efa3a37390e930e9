"""What activating an environment does to the variables of a process."""

from __future__ import annotations

import os

import pytest

from tritonpy.supervisor.environments.activation import activated


def test_the_environment_comes_first() -> None:
    inherited = {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/cuda", "HOME": "/root"}

    assert activated(inherited, "/srv/env", is_conda=False) == {
        "VIRTUAL_ENV": "/srv/env",
        "VIRTUAL_ENV_PROMPT": "env",
        "PATH": "/srv/env/bin:/usr/bin",
        "LD_LIBRARY_PATH": "/srv/env/lib:/cuda",
        "HOME": "/root",
    }
    assert inherited["PATH"] == "/usr/bin"


@pytest.mark.parametrize("inherited", [{}, {"PATH": "", "LD_LIBRARY_PATH": ""}])
def test_what_is_not_set_adds_no_empty_part(inherited: dict[str, str]) -> None:
    found = activated(inherited, "/env", is_conda=False)

    assert found["PATH"] == f"/env/bin:{os.defpath}"
    assert found["LD_LIBRARY_PATH"] == "/env/lib"


def test_nothing_leads_to_the_environment_of_the_server() -> None:
    inherited = {"PYTHONHOME": "/usr", "CONDA_PREFIX": "/opt/conda", "VIRTUAL_ENV": "/opt/server"}

    found = activated(inherited, "/env", is_conda=False)

    assert "PYTHONHOME" not in found
    assert "CONDA_PREFIX" not in found
    assert found["VIRTUAL_ENV"] == "/env"


def test_an_environment_of_condas_says_so() -> None:
    found = activated({"CONDA_PREFIX": "/opt/conda"}, "/env", is_conda=True)

    assert found["CONDA_PREFIX"] == "/env"
