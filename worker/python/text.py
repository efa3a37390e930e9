"""Text as models may give it: as str or, as to pybind11, in UTF-8."""

from __future__ import annotations


def as_text(value: object, what: str) -> str:
    """The text. Raises TypeError, and UnicodeDecodeError for other bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{what} to be str, got {type(value).__name__}")
