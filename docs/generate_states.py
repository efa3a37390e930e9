"""Write docs/states.md from the two state tables, or with --check tell whether it is fresh."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from tritonpy.supervisor.models import residency  # noqa: TID251 - not in the package
from tritonpy.supervisor.models import states as versions  # noqa: TID251 - not in the package
from tritonpy.supervisor.workers import states as workers  # noqa: TID251 - not in the package

PAGE = Path(__file__).with_name("states.md")

HEAD = """\
# States

<!-- Written by docs/generate_states.py from the tables in supervisor: change those, not this. -->

Three kinds of thing have a life of their own here: a version of a model, a model that is loaded on
demand, and the worker process of an instance. Each has one table of what may happen in which state,
and everything that happens goes through it. What is not in the table is a bug: it raises, and names
whose state it was.
"""

VERSION = """\
## A version of a model

What clients see: in the repository index, and in readiness. The table is
`supervisor/models/states.py`.

A reload happens inside READY. The new one is prepared beside the old one, and the version stays
READY whether that succeeds or fails.
"""

RESIDENCE = """\
## A model that is loaded on demand

Whether a request has to wait for its model. The table is `supervisor/models/residency.py`, which
also decides when a model goes again. Its versions have the states above besides.
"""

WORKER = """\
## A worker process

What the log tells, and what decides whether an instance gets requests. The table is
`supervisor/workers/states.py`; when an instance starts again is decided in
`supervisor/workers/restarts.py`. An instance begins in BACKOFF, with its first start due at once.
Busy is a count, not a state.
"""

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            HEAD,
            _chapter(
                VERSION, versions.VersionState, versions.TRANSITIONS, versions.VersionState.UNKNOWN
            ),
            _chapter(
                RESIDENCE, residency.Residence, residency.TRANSITIONS, residency.Residence.ABSENT
            ),
            _chapter(WORKER, workers.WorkerState, workers.TRANSITIONS, workers.WorkerState.BACKOFF),
        ]
    )


def _chapter(
    text: str, states: type[State], table: Mapping[tuple[State, Event], State], first: State
) -> str:
    meanings = _comments(states)
    lines = [text, "| State | Meaning |", "|---|---|"]
    lines += [f"| {state.name} | {meanings[state.name]} |" for state in states]
    lines += ["", "```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}"]
    lines += _arrows(table)
    lines += ["```", "", "| In state | this happens | then |", "|---|---|---|"]
    lines += [
        f"| {state.name} | {event.value} | {after.name if after is not state else 'stays'} |"
        for (state, event), after in table.items()
    ]
    return "\n".join([*lines, ""])


def _arrows(table: Mapping[tuple[State, Event], State]) -> list[str]:
    """One arrow for each pair of states, with everything that leads along it."""
    events: dict[tuple[str, str], list[str]] = {}
    for (state, event), after in table.items():
        events.setdefault((state.name, after.name), []).append(str(event.value))
    return [
        f"    {before} --> {after}: {' / '.join(words)}"
        for (before, after), words in events.items()
    ]


def _comments(states: type[Enum]) -> dict[str, str]:
    """What the comment above each value of the enumeration says."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in map(str.strip, inspect.getsource(states).splitlines()):
        if line.startswith("#:"):
            comment.append(line.removeprefix("#:").strip())
            continue
        name = line.partition(" = ")[0]
        if name in states.__members__:
            found[name] = " ".join(comment)
        comment = []
    return found


def main(arguments: list[str]) -> int:
    """Write the page; with --check compare instead, and return 1 when it is stale."""
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print(f"{PAGE.name} is stale: run docs/generate_states.py", file=sys.stderr)
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
