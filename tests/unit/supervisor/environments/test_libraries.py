"""What a worker needs in an environment, and where it has it from."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tritonpy.supervisor.environments import libraries
from tritonpy.supervisor.environments.failure import EnvironmentFailure
from tritonpy.supervisor.environments.interpreter import Interpreter

ROOT = Path(__file__).parents[4]

RECENT = {name: f"{oldest}.1" for name, oldest in libraries.NEEDED.items()}


def interpreter(packages: dict[str, str], *, has_pip: bool = True) -> Interpreter:
    return Interpreter(
        version=(3, 12, 1), abi="cp", executable="/python", packages=packages, has_pip=has_pip
    )


def test_what_an_environment_has_is_its_own() -> None:
    assert libraries.missing(interpreter(RECENT)) == ()
    assert libraries.missing(interpreter({})) == tuple(libraries.NEEDED)
    without = {name: version for name, version in RECENT.items() if name != "numpy"}
    assert libraries.missing(interpreter(without)) == ("numpy",)


@pytest.mark.parametrize("version", ["1.22.4", "1.9", "0.1rc1"])
def test_what_it_has_and_is_too_old_is_told(version: str) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        libraries.missing(interpreter({**RECENT, "numpy": version}))

    assert str(caught.value) == (
        f"it has numpy {version}, and a worker needs 1.23 or newer; upgrade it there"
    )


@pytest.mark.parametrize("version", ["1.23", "1.23.0rc1", "1.100", "2", "2.4.6+local"])
def test_what_is_recent_enough_is_used(version: str) -> None:
    assert "numpy" not in libraries.missing(interpreter({"numpy": version}))


def test_the_servers_own_packages_serve_from_a_folder_with_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "links"
    names = tuple(libraries.NEEDED)

    assert libraries.link_own(names, str(folder))

    question = """
import sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path] + [sys.argv[1]]
import msgspec, numpy, ml_dtypes
from importlib import metadata, util
print(numpy.__file__, metadata.version("numpy"), util.find_spec("grpc"))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", question, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    expected = f"{folder}/numpy/__init__.py {metadata.version('numpy')} None\n"
    assert done.stdout == expected


def test_a_package_that_does_not_tell_its_files_is_not_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not libraries.link_own(["no-such-package"], str(tmp_path / "one"))
    monkeypatch.setattr(metadata.Distribution, "files", None)
    assert not libraries.link_own(["numpy"], str(tmp_path / "two"))


def test_pip_is_the_environments_own_or_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert libraries.pip_of(interpreter({}), "/python") == ["/python", "-m", "pip"]
    assert libraries.pip_of(interpreter({}, has_pip=False), "/python") == [
        *(sys.executable, "-m", "pip", "--python", "/python")
    ]

    def missing(_name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(EnvironmentFailure, match="neither it nor the server's Python has pip"):
        libraries.pip_of(interpreter({}, has_pip=False), "/python")


def test_wheels_of_a_folder_are_the_only_ones_where_there_is_one() -> None:
    arguments = libraries.install_arguments(["numpy"], "/tree", "/wheels")
    assert arguments[-4:] == ["--no-index", "--find-links", "/wheels", "numpy>=1.23"]
    assert "--no-index" not in libraries.install_arguments(["numpy"], "/tree", "")


def test_what_a_worker_needs_is_a_part_of_what_the_server_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert set(libraries.NEEDED) <= {each.split(">=")[0] for each in project["dependencies"]}
