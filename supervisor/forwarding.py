"""Headers of a call that become parameters of its inference request."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

from ..ipc.errors import InvalidArgumentError

#: What begins a pattern in which upper and lower case differ.
_CASE_MATTERS = "(?-i)"

#: Parameters with a meaning of their own, which no header may set.
_RESERVED = frozenset(
    {
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "headers",
        "binary_data_output",
    }
)
_RESERVED_PREFIX = "triton_"


class HeaderForwarding:
    """Forwards headers whose name the pattern finds, anywhere in it and in upper or lower case.

    Raises ValueError for what is no regular expression.
    """

    def __init__(self, pattern: str) -> None:
        self._search = _compile(pattern).search

    def collect(self, headers: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
        """The parameters that the headers make; of two with the same name the last one counts.

        Raises InvalidArgumentError for a name that is reserved, or a value that is not UTF-8.
        """
        found: dict[str, str] = {}
        for name, value in headers:
            if self._search(name) is None:
                continue
            if name in _RESERVED or name.startswith(_RESERVED_PREFIX):
                raise InvalidArgumentError(
                    f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
                )
            try:
                found[name] = value if isinstance(value, str) else value.decode()
            except UnicodeError:
                raise InvalidArgumentError(
                    f"Header '{name}' cannot be forwarded: its value is not valid UTF-8"
                ) from None
        return found


def _compile(pattern: str) -> re.Pattern[str]:
    # RE2, which Triton uses, knows only ASCII in classes unless told otherwise.
    flags = re.IGNORECASE | re.ASCII
    if pattern.startswith(_CASE_MATTERS):
        pattern = pattern.removeprefix(_CASE_MATTERS)
        flags = re.ASCII
    try:
        with warnings.catch_warnings():
            # Python warns of what RE2 reads otherwise, as [[:alpha:]].
            warnings.simplefilter("error")
            return re.compile(pattern, flags)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression in Python's form ({error})") from None
