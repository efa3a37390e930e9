"""What the protobuf parsers complain about, said in words that help whoever wrote the text.

The parsers' own sentences are matched by pattern. One that is not known here is passed on as it
is, so a newer protobuf costs clarity at worst.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

#: The field names of a message, or the value names of an enum, by its full proto name.
Names = Callable[[str], Sequence[str]]


def explain(complaint: str, field: str, names: Names) -> str:
    """Say what is wrong and what to write instead.

    `complaint` is the parser's sentence without its position; `field` names the field that is
    being written there, "" when that is not known.
    """
    for pattern, answer in _ANSWERS:
        match = re.search(pattern, complaint, re.DOTALL)
        if match is not None:
            return answer(match, field, names)
    return complaint.strip().rstrip(".").replace("inference.", "")


def _about(field: str) -> str:
    return f"field '{field}'" if field else "the value"


def _nearest(word: str, choices: Sequence[str], likeness: float = 0.6) -> str:
    lower = [choice.lower() for choice in choices]
    close = difflib.get_close_matches(word.lower(), lower, 1, likeness)
    return next((choice for choice in choices if choice.lower() in close), "")


#: Data types as other tools call them.
_OTHER_NAMES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "FLOAT32": "FP32",
    "FLOAT64": "FP64",
    "HALF": "FP16",
    "BFLOAT16": "BF16",
    "DOUBLE": "FP64",
    "INT": "INT32",
    "LONG": "INT64",
    "BOOLEAN": "BOOL",
    "BYTES": "STRING",
    "TEXT": "STRING",
}


def unknown_field(name: str, group: str, fields: Sequence[str]) -> str:
    """A sentence about a field that does not exist, with the name that was probably meant.

    `group` is the field that it stands in, "" at the top.
    """
    complaint = f"unknown field '{name}' in '{group}'" if group else f"unknown field '{name}'"
    nearest = _nearest(name, fields)
    if nearest:
        return f"{complaint}: did you mean '{nearest}'?"
    return f"{complaint}: the fields possible here are {', '.join(fields)}"


def unknown_value(value: str, field: str, choices: Sequence[str]) -> str:
    """A sentence about an enum value that does not exist, with the one that was probably meant."""
    bare = value.strip("\"'")
    if bare != value and bare in choices:
        return f"{_about(field)} takes a name without quotation marks: {bare}"
    prefix = choices[0].split("_")[0] + "_" if choices else ""
    plain = bare.upper().removeprefix(prefix)
    nearest = prefix + _OTHER_NAMES.get(plain, plain)
    if nearest not in choices:
        nearest = _nearest(bare, choices, 0.8)  # they all begin alike
    if nearest:
        return f"{_about(field)} has no value {value}: did you mean {nearest}?"
    return f"{_about(field)} has no value {value}: choose one of {', '.join(choices)}"


def _unknown_field(match: re.Match[str], field: str, names: Names) -> str:
    return unknown_field(match.group(2), field, names(match.group(1)))


def _unknown_value(match: re.Match[str], field: str, names: Names) -> str:
    return unknown_value(match.group(2), field, names(match.group(1)))


def _not_a_number(match: re.Match[str], field: str, names: Names) -> str:
    got = match.group(2).strip()
    whole = "a whole number" if match.group(1) == "integer" else "a number"
    if not got:
        return f"{_about(field)} expects {whole}, but the text ends here"
    if got[0] in "\"'":
        return f"{_about(field)} expects {whole}, got text: write it without quotation marks"
    if got in "]}>":
        return (
            f"{_about(field)} expects {whole}, got '{got}': there may be a ',' too many before it"
        )
    return f"{_about(field)} expects {whole}, got '{got}'"


def _not_a_string(match: re.Match[str], field: str, names: Names) -> str:
    got = match.group(1)
    if got in "“”‘’«»„":  # a word processor's
        return f'{_about(field)} expects text in straight quotation marks ("), got {got}'
    return f'{_about(field)} expects text: put it into quotation marks, as in "{got}"'


def _wrong_mark(match: re.Match[str], field: str, names: Names) -> str:
    mark = match.group(1)
    leaf = re.sub(r"\[\d+\]", "", field.rpartition(".")[2]) or "name"
    if mark == ",":
        return (
            f"the list of {_about(field)} goes on wrongly: separate its elements by ',' and close "
            "every '{' by '}' and the list by ']'"
        )
    if mark == "{":
        return f"{_about(field)} is a group of fields: expected '{{' here, as in {leaf} {{ ... }}"
    if mark == ":":
        return f"{_about(field)} needs a ':' between its name and its value"
    return f"expected '{mark}' here: a bracket that was opened before is not closed"


def _no_name(match: re.Match[str], field: str, names: Names) -> str:
    got = match.group(1).rstrip(".")
    if got == "{":
        return (
            "expected the name of a field before '{' (a configuration file is in protobuf text "
            'format, name: "value", and not in JSON)'
        )
    if got in ("}", ">", "]"):
        return f"expected the name of a field, got '{got}': it closes a bracket that is not open"
    if not got:
        return "the text ends inside a group of fields: a closing '}' is missing"
    return f"expected the name of a field, got {got}"


def _open_string(match: re.Match[str], field: str, names: Names) -> str:
    return f"{_about(field)}: the closing quotation mark of the text is missing on this line"


def _out_of_range(match: re.Match[str], field: str, names: Names) -> str:
    return f"{_about(field)} cannot hold {match.group(1).rstrip('.')}: it is out of range"


def _twice(match: re.Match[str], field: str, names: Names) -> str:
    return f"field '{match.group(1)}' is given twice: keep one of them"


def _exclusive(match: re.Match[str], field: str, names: Names) -> str:
    return f"fields '{match.group(2)}' and '{match.group(1)}' exclude each other: keep one of them"


def _not_a_bool(match: re.Match[str], field: str, names: Names) -> str:
    return f"{_about(field)} expects true or false"


_ANSWERS: tuple[tuple[str, Callable[[re.Match[str], str, Names], str]], ...] = (
    (r'Message type "([\w.]+)" has no field named "([^"]*)"', _unknown_field),
    (r'Enum type "([\w.]+)" has no value named (.+?)\.?$', _unknown_value),
    (r"Couldn't parse (integer|float): ?(.*)$", _not_a_number),
    (r"Expected string but found: '(.*)'$", _not_a_string),
    (r"String missing ending quote", _open_string),
    (r"[Vv]alue out of range: (\S+)", _out_of_range),
    (r'should not have multiple "([^"]+)" (?:fields|oneof)', _twice),
    (
        r'Field "([^"]+)" is specified along with field "([^"]+)", another member of oneof',
        _exclusive,
    ),
    (r'Expected "true" or "false"', _not_a_bool),
    (r"Expected identifier(?: or number)?, got (.*)$", _no_name),
    (r'Expected "(.)"', _wrong_mark),
)
