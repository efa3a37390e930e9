"""`tritonpy-supervisor check <folder> ...`: the command line around the examination.

Exit status 0 when every model would be served, 1 when one would be refused, 2 when the arguments
are wrong or a folder cannot be read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ...ipc.errors import InvalidArgumentError, StatusError
from ..command_line import parse
from ..config.artefacts import ARTEFACTS
from ..models.catalogue import Catalogue
from ..settings import Settings
from . import examiner, report
from .findings import ModelReport

USAGE = """\
usage: tritonpy-supervisor check <folder> ... [--json] [--load] [options of serve]

Tells what serving these model repositories, or folders of single models, would refuse or warn of,
without serving them. Nothing is imported or run.

  --json  Print one JSON document.
  --load  Load each model that nothing is found against in a worker, and unload it again; shows its
          log, and the memory that it takes.
  --help  Show this and exit.

Options of serve count as they would there, such as --backend-directory, --model-config-name,
--disable-auto-complete-config and --model-namespacing.

Exit status: 0 when every model would be served, 1 when one would not, 2 when the arguments are
wrong or a folder cannot be read."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What the arguments ask for; of `models`, none stands for all."""

    settings: Settings
    models: frozenset[str]
    json: bool
    load: bool


def run(arguments: Sequence[str]) -> int:
    """Check what the arguments name; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE)
        return 0
    logging.getLogger("tritonpy").addHandler(logging.NullHandler())
    logging.getLogger("tritonpy").propagate = False
    try:
        request = _read(arguments)
        for notice in request.settings.notices:
            print(f"Warning: {notice}", file=sys.stderr)
        reports = _examined(request)
        if request.load:
            from .loads import load_each  # the server and all that it needs

            load_each(request.settings, reports)
    except (StatusError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(report.as_json(reports) if request.json else report.as_text(reports))
    return report.exit_status(reports)


def _read(arguments: Sequence[str]) -> _Request:
    """Tell folders, our own switches, and options of serve apart. Raises InvalidArgumentError."""
    switches = {"--json", "--load"}
    folders: list[str] = []
    options: list[str] = []
    for argument in arguments:
        # The value of an option may stand behind it.
        is_value = bool(options) and options[-1].startswith("--") and "=" not in options[-1]
        if argument in switches:
            continue
        if argument.startswith("-") or is_value:
            options.append(argument)
        else:
            folders.append(argument)
    if not folders:
        raise InvalidArgumentError(
            "a folder is missing: name a model repository or the folder of a model, "
            "as in 'tritonpy-supervisor check /srv/models'"
        )
    repositories: list[str] = []
    models: set[str] = set()
    for folder in folders:
        if "://" not in folder and _is_model(folder):
            parent, name = os.path.split(os.path.abspath(folder))
            repositories.append(parent)
            models.add(name)
        else:
            repositories.append(folder)
    if models and len(models) < len(folders):
        raise InvalidArgumentError(
            "folders of models and model repositories are checked one kind at a time: "
            f"{', '.join(sorted(models))} is the folder of a model"
        )
    given = [f"--model-repository={repository}" for repository in dict.fromkeys(repositories)]
    return _Request(
        parse([*given, *options]),
        frozenset(models),
        "--json" in arguments,
        "--load" in arguments,
    )


def _is_model(folder: str) -> bool:
    """Whether a folder is that of a model, rather than of models."""
    try:
        names = set(os.listdir(folder))
    except OSError:
        return False  # whoever lists it next tells why
    if "config.pbtxt" in names or "configs" in names:
        return True
    files = {artefact.filename for artefact in ARTEFACTS}
    versions = [name for name in names if name.isdecimal()]
    return any(files.intersection(_listed(os.path.join(folder, name))) for name in versions)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _examined(request: _Request) -> list[ModelReport]:
    catalogue = Catalogue(request.settings)
    try:
        asyncio.run(catalogue.look())
        wanted = [
            model
            for model in catalogue.identifiers
            if not request.models or model.name in request.models
        ]
        return examiner.examined(request.settings, catalogue, wanted)
    finally:
        catalogue.storage.close()
