"""Prometheus' text format: the lines of one family."""

from __future__ import annotations

from collections.abc import Iterator

Labels = tuple[tuple[str, str], ...]


def header(name: str, type_: str, help_: str) -> Iterator[str]:
    """The two lines before the samples of a family."""
    yield f"# HELP {name} {help_}"
    yield f"# TYPE {name} {type_}"


def sample(name: str, labels: Labels, value: int | float | str) -> str:
    """A series and its value, text or number; labels are written in alphabetical order."""
    if not labels:
        return f"{name} {value}"
    pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in sorted(labels))
    return f"{name}{{{pairs}}} {value}"


def bound(value: float) -> str:
    """A bucket's bound or a quantile as the text of its label."""
    return f"{value:g}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
