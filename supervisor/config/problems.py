"""What a rule of validate.py finds wrong, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ...ipc.errors import InvalidArgumentError
from .locate import Path, Source, spell
from .schema import ModelConfig

#: More than these would bury the first, and the rest often follows from it.
_TOLD_AT_ONCE = 5


class Problem(NamedTuple):
    """One broken rule: the field, what is wrong with it, and what to write instead."""

    path: Path
    message: str
    remedy: str

    def tell(self, model: str, source: Source) -> str:
        """The sentence for the log and the client: place, complaint, model, field, remedy."""
        field = f" (field {spell(self.path)})" if self.path else ""
        place = source.place(self.path)
        return f"{place}: {self.message} in model '{model}'{field}; {self.remedy}"


#: Yields what the configuration breaks; it has been normalised before.
Rule = Callable[[ModelConfig], Iterator[Problem]]


class ConfigurationError(InvalidArgumentError):
    """Raised when a configuration breaks rules: all of them, where the message has the first few.

    `config` is what was checked, and `source` where it is from.
    """

    def __init__(self, problems: Sequence[Problem], config: ModelConfig, source: Source) -> None:
        told = [problem.tell(config.name, source) for problem in problems[:_TOLD_AT_ONCE]]
        if len(problems) > _TOLD_AT_ONCE:
            told.append(f"and {len(problems) - _TOLD_AT_ONCE} more")
        super().__init__("\n".join(told))
        self.problems = problems
        self.config = config
        self.source = source


def refuse(problems: Sequence[Problem], config: ModelConfig, source: Source) -> None:
    """Raise ConfigurationError if there is any problem."""
    if problems:
        raise ConfigurationError(problems, config, source)
