"""The files in records/: what the real server answered, an area to a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .case import Area, Case, digest

Answer = dict[str, Any]

_FOLDER = Path(__file__).with_name("records")


class StaleError(Exception):
    """Raised when a case has no record, or one of another question; record.py makes it anew."""


def written(area: Area, answers: Iterable[tuple[Case, Answer]]) -> str:
    """The content of an area's file."""
    record = {area.id(case): {"asked": digest(case), "answer": answer} for case, answer in answers}
    assert list(record) == [name for name, _ in area.cases()], "two cases of one name"
    return json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write(area: Area, content: str) -> None:
    """Keep a file."""
    file(area).write_text(content, encoding="utf-8")


def read(area: Area) -> dict[str, Answer]:
    """The answers of an area by the ids of its cases. Raises StaleError."""
    path = file(area)
    record: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name, case in area.cases():
        if record.get(name, {}).get("asked") != digest(case):
            raise StaleError(f"{path.name} has no record of the case '{name}' as it is now")
    return {name: record[name]["answer"] for name, _ in area.cases()}


def file(area: Area) -> Path:
    """Where the answers of an area are kept."""
    return _FOLDER / f"{area.name.replace(' ', '_')}.json"
