"""What `check` finds: sentences about models, each with its place and its weight."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from ...ipc.errors import StatusError
from ..config.locate import Source, spell
from ..config.problems import ConfigurationError, Problem
from ..config.schema import ModelConfig
from ..models.identifier import ModelIdentifier

#: A sentence that begins with the place that it is about, or names one on the way.
_PLACE = re.compile(r"^(?P<file>[^\n:]+):(?P<line>\d+): (?P<message>.*)", re.DOTALL)
_PARSED = re.compile(r"failed to read text proto from (?P<file>[^\n]+?): line (?P<line>\d+)\b")


class Severity(Enum):
    """What a finding means for serving."""

    #: The model is refused.
    ERROR = "error"
    #: It is served, and likely not as it was meant; or it is refused unless it mends itself.
    WARNING = "warning"
    #: Something cannot be told without loading the model.
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know; fields that are not known are empty."""

    severity: Severity
    message: str
    version: int | None = None
    file: str = ""
    line: int | None = None
    field: str = ""
    remedy: str = ""

    @property
    def place(self) -> str:
        """`file:line` as far as it is known."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file


@dataclass(slots=True)
class Loaded:
    """What a load in a real worker brought: its log, and what the model takes."""

    ok: bool
    seconds: float = 0.0
    memory_bytes: int = 0
    log: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class ModelReport:
    """All that was found about a model. Its versions are those that would be served."""

    model: ModelIdentifier
    backend: str = ""
    versions: list[int] = field(default_factory=list[int])
    findings: list[Finding] = field(default_factory=list[Finding])
    loaded: Loaded | None = None
    #: By version, the configuration, and whether nothing is completed by the model any more.
    configs: dict[int, tuple[ModelConfig, bool]] = field(
        default_factory=dict[int, tuple[ModelConfig, bool]]
    )

    @property
    def failed(self) -> bool:
        """Whether it would not be served."""
        return any(found.severity is Severity.ERROR for found in self.findings)

    def count(self, severity: Severity) -> int:
        """How many findings have this weight."""
        return sum(found.severity is severity for found in self.findings)

    def add(
        self,
        severity: Severity,
        message: str,
        version: int | None = None,
        *,
        file: str = "",
        line: int | None = None,
        remedy: str = "",
    ) -> None:
        """Add a sentence; one that is there already says nothing new."""
        place = _PLACE.match(message)
        if place is not None:
            file, line, message = place["file"], int(place["line"]), place["message"]
        elif (parsed := _PARSED.search(message)) is not None:
            file, line = parsed["file"], int(parsed["line"])
        self._add(Finding(severity, message.strip(), version, file, line, remedy=remedy))

    def add_problems(
        self,
        severity: Severity,
        problems: Sequence[Problem],
        source: Source,
        unless: str = "",
    ) -> None:
        """Add rules that the configuration breaks; `unless` says how they may still be kept."""
        for problem in problems:
            file = source.name if source.text else ""
            line = source.line(problem.path) if source.text else None
            remedy = f"{problem.remedy}{unless}"
            field_name = spell(problem.path)
            self._add(Finding(severity, problem.message, None, file, line, field_name, remedy))

    def noting(
        self,
        version: int | None = None,
        severity: Severity = Severity.ERROR,
        unless: str = "",
    ) -> Noting:
        """A context in which a StatusError that is raised is a finding, and ends there."""
        return Noting(self, version, severity, unless)

    def _add(self, finding: Finding) -> None:
        if finding not in self.findings:
            self.findings.append(finding)


class Noting:
    """Takes what is raised inside as findings of a report."""

    def __init__(
        self, report: ModelReport, version: int | None, severity: Severity, unless: str
    ) -> None:
        self._report = report
        self._version = version
        self._severity = severity
        self._unless = unless

    def __enter__(self) -> None:
        """Nothing has happened yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> bool:
        """Note what a load would have been refused with; anything else goes on."""
        if isinstance(error, ConfigurationError):
            self._report.add_problems(self._severity, error.problems, error.source, self._unless)
        elif isinstance(error, StatusError):
            self._report.add(self._severity, f"{error.message}{self._unless}", self._version)
        return isinstance(error, StatusError)
