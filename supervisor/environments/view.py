"""What a worker in an environment of its own sees of the server: its own code, and nothing else."""

from __future__ import annotations

import os
import sys

#: How a process that runs it is known in lists of processes.
_NAME_ENDING = ".worker"

#: The parts of the package that a worker consists of.
_PARTS = ("__init__.py", "ipc", "worker")

#: Run by `python <folder> <libraries> <arguments of the worker>`: modules are then looked for in
#: the folder first, and in the libraries last.
_START = '''\
"""Starts a worker."""

import runpy
import sys

sys.path.append(sys.argv.pop(1))
runpy.run_module("{package}.worker", run_name="__main__", alter_sys=True)
'''


def make_view(parent: str) -> str:
    """Make the folder that a worker is started from, which links to our code; returns its path.

    Blocking. Raises OSError.
    """
    package = __name__.partition(".")[0]
    source = sys.modules[package].__file__
    assert source is not None
    folder = os.path.join(parent, package + _NAME_ENDING)
    os.makedirs(os.path.join(folder, package), mode=0o700)
    for part in _PARTS:
        os.symlink(os.path.join(os.path.dirname(source), part), os.path.join(folder, package, part))
    with open(os.path.join(folder, "__main__.py"), "w", encoding="utf-8") as file:
        file.write(_START.format(package=package))
    return folder
