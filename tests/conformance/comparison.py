"""Whether two answers are the same."""

from __future__ import annotations

import json
from typing import Any

Answer = dict[str, Any]


def same(expected: Answer, answer: Answer) -> bool:
    """Whether the answers are equal, apart from how JSON spells numbers.

    The order of members counts, and whether a number is an integer; 1e+20 is
    100000000000000000000.0.
    """
    if expected == answer:
        return True
    if "body" not in expected or {**expected, "body": 0} != {**answer, "body": 0}:
        return False
    try:
        return bool(_meaning(expected["body"]) == _meaning(answer["body"]))
    except ValueError:
        return False


def _meaning(text: str) -> Any:
    return json.loads(
        text,
        object_pairs_hook=tuple,
        parse_int=lambda digits: ("integer", digits),
        parse_constant=str,
    )
