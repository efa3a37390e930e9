"""Ask the real Triton all questions of the conformance suite, and keep its answers in records/.

Run by hand where that server can be had: benchmarks/load/rival.py fetches it. Tests only read the
records. Whatever changes from run to run is normalised: recording twice gives the same files, which
`--check` shows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "load"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rival  # type: ignore[import-not-found]
import servers  # type: ignore[import-not-found]
from conformance import recordings
from conformance.case import Area, Setup
from conformance.catalogue import AREAS
from conformance.player import Player
from conformance.repositories import REPOSITORIES


def main() -> int:
    """Record all areas, or check them: then the exit status is 1 when something has changed."""
    parser = argparse.ArgumentParser(description="Record what the real Triton answers.")
    parser.add_argument("repositories", nargs="*", help=f"of {', '.join(REPOSITORIES)}; or all")
    parser.add_argument("--cache", help="folder that the real server is kept in")
    parser.add_argument("--check", action="store_true", help="compare with the records instead")
    options = parser.parse_args()
    triton = rival.triton(rival.cache_folder(options.cache))
    changed: list[str] = []
    for setup in dict.fromkeys(area.setup for area in AREAS):
        if options.repositories and setup.repository not in options.repositories:
            continue
        for area, content in _record(triton, setup):
            path = recordings.file(area)
            if not path.exists() or path.read_text("utf-8") != content:
                changed.append(path.name)
                if not options.check:
                    recordings.write(area, content)
    print(f"changed: {', '.join(changed) or 'nothing'}")
    return int(options.check and bool(changed))


def _record(triton: Any, setup: Setup) -> Iterator[tuple[Area, str]]:
    """Start the real server, and take all areas of a set-up in their order."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder, "repository")
        REPOSITORIES[setup.repository](repository)
        launch = servers.triton_launch(triton, setup.repositories(repository))
        caches = f"--cache-directory={triton.server.path.parents[1] / 'caches'}"
        if setup.backends:  # where the real server looks for its own ones too
            for own in triton.backends.iterdir():
                (repository / setup.backends / own.name).symlink_to(own)
        launch = replace(launch, command=[*launch.command, caches, *setup.options(repository)])
        with servers.Server(launch, Path(folder, "log")) as server:
            http = ("127.0.0.1", server.ports["http"])
            metrics = ("127.0.0.1", _metrics_port(launch.command))
            player = Player(http, server.address("grpc"), repository, metrics)
            for area in AREAS:
                if area.setup == setup:
                    print(f"{setup.repository}: {area.name}", flush=True)
                    yield area, recordings.written(area, player.play(area))


def _metrics_port(command: Sequence[str]) -> int:
    """The port that the server was told; it does not log it as the others."""
    option = "--metrics-port="
    return int(next(one.removeprefix(option) for one in command if one.startswith(option)))


if __name__ == "__main__":
    sys.exit(main())
