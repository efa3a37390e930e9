"""Where in a configuration's text a field stands, so that messages can name the line.

The protobuf parser throws positions away. This is a second, forgiving reading of the text that
keeps nothing but names, nesting and lines; it never fails, whatever the text holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property


class MapKey(str):
    """An element of a path that picks the entry of a map, not a field."""

    __slots__ = ()


#: A field of a configuration: names, each perhaps followed by an index or a map's key, as in
#: ("input", 0, "dims") or ("model_warmup", 0, "inputs", MapKey("INPUT0"), "dims").
Path = tuple[str | int, ...]


def spell(path: Path) -> str:
    """The path as people write it: `input[0].dims`."""
    parts: list[str] = []
    for element in path:
        if isinstance(element, int):
            parts.append(f"[{element}]")
        elif isinstance(element, MapKey):
            parts.append(f'["{element}"]')
        else:
            parts.append(f".{element}" if parts else element)
    return "".join(parts)


@dataclass(slots=True)
class _Node:
    line: int
    value: str = ""
    children: dict[str, list[_Node]] = field(default_factory=dict[str, "list[_Node]"])


@dataclass(slots=True)
class Source:
    """Where a configuration came from: `name` is a path, or words; `text` is its protobuf text.

    Without text (a configuration in JSON, or one made up by the server) no line can be told.
    """

    name: str
    text: str = ""
    _root: _Node | None = field(default=None, repr=False, compare=False)

    def place(self, path: Path) -> str:
        """`name:line` of the field, of the innermost part of it that the text has, or `name`."""
        line = self.line(path)
        return self.name if line is None else f"{self.name}:{line}"

    def line(self, path: Path) -> int | None:
        """The line of the field, or of the innermost part of it that the text has."""
        if self._root is None:
            self._root = _Scan(self.text).root
        return _find(self._root, path)


def field_before(text: str, line: int, column: int) -> str:
    """The field that is being written just before a position, both counted from 1; "" for none."""
    before = text.split("\n")[:line]
    if len(before) == line:
        before[-1] = before[-1][: column - 1]
    return spell(_Scan("\n".join(before)).open_path)


def _find(node: _Node, path: Path) -> int | None:
    if not path:
        return None
    nodes = node.children.get(str(path[0]), [])
    pick = path[1] if len(path) > 1 else None
    if isinstance(pick, MapKey):
        entry = next((entry for entry in nodes if _key(entry) == pick), None)
        # In the text, a map is a list of entries, and its value the entry's field `value`.
        if entry is None or not path[2:]:
            return None if entry is None else entry.line
        return _find(entry, ("value", *path[2:])) or entry.line
    index, rest = (pick, path[2:]) if isinstance(pick, int) else (0, path[1:])
    if index >= len(nodes):
        return None
    chosen = nodes[index]
    return _find(chosen, rest) or chosen.line


def _key(entry: _Node) -> str | None:
    keys = entry.children.get("key")
    return keys[0].value if keys else None


_TOKEN = re.compile(
    r"""(?P<newline>\n) | [^\S\n]+ | \#[^\n]*
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<mark>[{}<>\[\]:,;])
      | (?P<word>[^\s{}<>\[\]:,;\#"']+)
      | (?P<stray>.)""",
    re.VERBOSE,
)


@dataclass(slots=True)
class _Frame:
    """An open bracket: `node` takes fields; `listed` names the field whose list this is."""

    node: _Node
    listed: str = ""


class _Scan:
    """One pass over the text: `root` is what stands where, `open_path` what is open at its end."""

    def __init__(self, text: str) -> None:
        self.root = _Node(1)
        self._frames = [_Frame(self.root)]
        self._field = ""
        self._line = 1
        for kind, token, line in _tokens(text):
            if kind == "mark":
                self._mark(token, line)
            elif self._field:
                self._add(_Node(line if self._listed else self._line, token.strip("\"'")))
                self._field = self._listed
            elif kind == "word":
                self._field, self._line = token, line

    @cached_property
    def open_path(self) -> Path:
        path: list[str | int] = []
        node = self.root
        for frame in self._frames[1:]:
            if frame.node is not node:
                path += _step(node, frame.node)
                node = frame.node
        return (*path, self._field) if self._field else tuple(path)

    @property
    def _listed(self) -> str:
        return self._frames[-1].listed

    def _mark(self, token: str, line: int) -> None:
        if token in "{<":
            node = _Node(line if self._listed else (self._line if self._field else line))
            self._add(node)
            self._frames.append(_Frame(node))
            self._field = ""
        elif token == "[":
            self._frames.append(_Frame(self._frames[-1].node, self._field or "?"))
        elif token in "}>]":
            if len(self._frames) > 1:
                self._frames.pop()
            self._field = self._listed
        elif token in ",;" and not self._listed:
            self._field = ""

    def _add(self, node: _Node) -> None:
        self._frames[-1].node.children.setdefault(self._field, []).append(node)


def _step(parent: _Node, child: _Node) -> list[str | int]:
    for name, nodes in parent.children.items():
        for index, node in enumerate(nodes):
            if node is child:
                return [name, index] if name in _REPEATED or index else [name]
    return []


#: Messages that may repeat: their index is worth saying even when there is but one.
_REPEATED = frozenset(("input", "output", "batch_input", "batch_output", "instance_group", "step"))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "newline":
            line += 1
        elif kind is not None:
            yield kind, match.group(), line
