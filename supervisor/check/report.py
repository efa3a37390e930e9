"""What `check` found, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from .findings import Finding, Loaded, ModelReport, Severity


def exit_status(reports: Sequence[ModelReport]) -> int:
    """0 when all models would be served, 1 when one would not."""
    return int(any(report.failed for report in reports))


def as_text(reports: Sequence[ModelReport]) -> str:
    """A line for each model, followed by what was found about it; at the end the sums."""
    lines: list[str] = []
    for report in reports:
        lines += [_headline(report), *_lines_of(report)]
    counts = [
        _counted(sum(report.count(severity) for report in reports), severity.value)
        for severity in Severity
    ]
    lines.append(f"{_counted(len(reports), 'model')}: {', '.join(counts)}")
    return "\n".join(lines)


def as_json(reports: Sequence[ModelReport]) -> str:
    """The same as one document; what is not known is left out."""
    document = {
        "models": [_model(report) for report in reports],
        **{
            f"{severity.value}s": sum(report.count(severity) for report in reports)
            for severity in Severity
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _headline(report: ModelReport) -> str:
    state = "refused" if report.failed else "ok"
    facts = [report.backend] if report.backend else []
    if report.versions:
        word = "version" if len(report.versions) == 1 else "versions"
        facts.append(f"{word} {', '.join(map(str, report.versions))}")
    return f"{report.model}: {state}" + (f" ({', '.join(facts)})" if facts else "")


def _lines_of(report: ModelReport) -> Iterator[str]:
    for finding in report.findings:
        yield f"  {finding.severity.value}: {_sentence(finding)}"
    if report.loaded is not None:
        if report.loaded.ok:
            yield (
                f"  loaded in {report.loaded.seconds:.2f} s, takes "
                f"{report.loaded.memory_bytes / 2**20:.1f} MiB"
            )
        for line in report.loaded.log:
            yield from (f"  | {part}" for part in line.splitlines())


def _sentence(finding: Finding) -> str:
    place = f"{finding.place}: " if finding.place else ""
    version = f"version {finding.version}: " if finding.version is not None else ""
    field = f" (field {finding.field})" if finding.field else ""
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    text = f"{place}{version}{finding.message}{field}{remedy}"
    return text.replace("\n", "\n    ")


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _model(report: ModelReport) -> dict[str, object]:
    found: dict[str, object] = {"name": report.model.name}
    if report.model.namespace:
        found["namespace"] = report.model.namespace
    found |= {
        "ok": not report.failed,
        "backend": report.backend,
        "versions": report.versions,
        "findings": [_finding(finding) for finding in report.findings],
    }
    if report.loaded is not None:
        found["loaded"] = _loaded(report.loaded)
    return found


def _loaded(loaded: Loaded) -> dict[str, object]:
    return {
        "ok": loaded.ok,
        "seconds": round(loaded.seconds, 3),
        "memory_bytes": loaded.memory_bytes,
        "log": loaded.log,
    }


def _finding(finding: Finding) -> dict[str, object]:
    known = {
        "severity": finding.severity.value,
        "message": finding.message,
        "version": finding.version,
        "file": finding.file,
        "line": finding.line,
        "field": finding.field,
        "remedy": finding.remedy,
    }
    return {key: value for key, value in known.items() if value not in (None, "")}
