"""The tables that the server logs at its start, drawn as tritonserver draws them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .settings import Settings

Row = Sequence[str]


def draw(headings: Row, rows: Iterable[Row]) -> str:
    """A table in ASCII. A cell of several lines makes its row as high as it needs."""
    body = [[cell.split("\n") for cell in row] for row in rows]
    widths = [
        max(len(heading), *(len(line) for row in body for line in row[column]), 0)
        for column, heading in enumerate(headings)
    ]
    rule = "+" + "".join("-" * (width + 2) + "+" for width in widths)
    lines = [rule, _line(headings, widths), rule]
    for row in body:
        for index in range(max(len(cell) for cell in row)):
            line = [cell[index] if index < len(cell) else "" for cell in row]
            lines.append(_line(line, widths))
    lines.append(rule)
    return "\n".join(lines)


def _line(cells: Row, widths: Sequence[int]) -> str:
    padded = (f" {cell:<{width}} |" for cell, width in zip(cells, widths, strict=True))
    return "|" + "".join(padded)


def repository_agents(rows: Iterable[tuple[str, str]]) -> str:
    """The repository agents: name and path."""
    return draw(("Repository Agent", "Path"), rows)


def backends(rows: Iterable[tuple[str, str, str]]) -> str:
    """The backends: name, path and configuration."""
    return draw(("Backend", "Path", "Config"), rows)


def models(rows: Iterable[tuple[str, str, str]]) -> str:
    """The models: name, version, and READY or UNAVAILABLE with the reason."""
    return draw(("Model", "Version", "Status"), rows)


def options(settings: Settings, version: str, extensions: Iterable[str]) -> str:
    """The settings that the server runs with, under tritonserver's names for them."""
    models = settings.models
    rows = [
        ("server_id", settings.server_id),
        ("server_version", version),
        ("server_extensions", " ".join(extensions)),
    ]
    rows += [(f"model_repository_path[{i}]", path) for i, path in enumerate(settings.repositories)]
    rows.append(("model_control_mode", f"MODE_{models.mode.upper()}"))
    rows += [(f"startup_models_{i}", name) for i, name in enumerate(models.startup)]
    rows += [
        ("strict_model_config", str(int(models.strict_config))),
        ("model_config_name", models.config_name),
        ("rate_limit", "OFF" if settings.workers.rate_limit == "off" else "EXEC_COUNT"),
        *_resources(settings.workers.rate_limit_resources),
        ("pinned_memory_pool_byte_size", "0"),
        ("min_supported_compute_capability", "6.0"),
        ("strict_readiness", str(int(settings.strict_readiness))),
        ("exit_timeout", str(settings.exit_timeout_secs)),
        ("cache_enabled", str(int(bool(settings.cache.config)))),
        ("arena_byte_size", str(settings.workers.arena_bytes)),
    ]
    return draw(("Option", "Value"), rows)


def _resources(texts: Sequence[str]) -> Iterable[tuple[str, str]]:
    """The resources of the rate limiter as tritonserver lists them, those of all devices first."""
    parts = (text.split(":") for text in texts)
    rows = sorted((int(device[0]) if device else -1, name, count) for name, count, *device in parts)
    for index, (device, name, count) in enumerate(rows):
        text = f'{{"name":"{name}", "count":{count} "device":{device}}}'
        yield f"rate_limit_resource[{index}]", text
