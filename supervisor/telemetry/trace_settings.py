"""Which requests are traced and how: the settings, who overrides whom, and the sampling.

A model's own settings win over the global ones that clients set, and those over the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from ...ipc.errors import InvalidArgumentError, UnsupportedError

Mode = Literal["triton", "opentelemetry"]

#: Levels by their names; the first two are old names.
_LEVELS = {
    "MIN": "TIMESTAMPS",
    "MAX": "TIMESTAMPS",
    "TIMESTAMPS": "TIMESTAMPS",
    "TENSORS": "TENSORS",
}
_UINT32_MAX = 2**32 - 1
_INT32_MAX = 2**31 - 1
#: What is read of a number; Triton ignores what follows it.
_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")

#: The numbers of the mode opentelemetry, in Triton's order, with their defaults.
_EXPORT_NUMBERS = {
    "bsp_max_queue_size": 2048,
    "bsp_max_export_batch_size": 512,
    "bsp_schedule_delay": 5000,
}


class TraceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of some model's traces: no levels is off, a count of -1 knows no end.

    One request in `rate` is traced. A file holds `log_frequency` traces, 0 for all of them.
    """

    levels: tuple[str, ...] = ()
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0


class TraceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says: the settings to begin with, and what never changes."""

    mode: Mode = "triton"
    settings: TraceSettings = TraceSettings()
    file: str = ""
    url: str = "http://localhost:4318/v1/traces"
    resource: tuple[tuple[str, str], ...] = ()
    numbers: dict[str, int] = msgspec.field(default_factory=_EXPORT_NUMBERS.copy)

    def constants(self) -> list[tuple[str, str]]:
        """The settings that only the command line sets, as clients see them."""
        if self.mode == "triton":
            return [("trace_file", self.file), ("trace_mode", self.mode)]
        shown = [("trace_mode", self.mode), ("url", self.url)]
        shown += [("resource", f"{key}={value}") for key, value in self.resource]
        return shown + [(name, str(self.numbers[name])) for name in _EXPORT_NUMBERS]


def parse_config(texts: Iterable[str]) -> TraceConfig:
    """Read the values of `--trace-config`. Raises InvalidArgumentError for a wrong one."""
    levels: list[str] = []
    resource: list[tuple[str, str]] = []
    fields: dict[str, object] = {}
    settings: dict[str, int] = {}
    numbers = dict(_EXPORT_NUMBERS)
    for text in texts:
        name, _, value = text.partition("=")
        match name:
            case "mode":
                if value not in ("triton", "opentelemetry"):
                    raise _wrong(text, "triton or opentelemetry")
                fields["mode"] = value
            case "level":
                levels.append(value)
            case "rate":
                settings["rate"] = _within(text, value, 0, _UINT32_MAX)
            case "count":
                settings["count"] = _within(text, value, -1, _INT32_MAX)
            case "triton,log-frequency":
                settings["log_frequency"] = _within(text, value, 0, _UINT32_MAX)
            case "triton,file":
                fields["file"] = value
            case "opentelemetry,url":
                fields["url"] = value
            case "opentelemetry,resource":
                key, equals, item = value.partition("=")
                if not key or not equals:
                    raise _wrong(text, "<key>=<value>")
                resource.append((key, item))
            case _:
                owner, _, key = name.partition(",")
                if owner != "opentelemetry" or key not in numbers:
                    raise InvalidArgumentError(
                        f"--trace-config={text} names an unknown setting: expected mode, level, "
                        "rate or count; file or log-frequency of triton; url, resource, "
                        f"{', '.join(numbers)} of opentelemetry"
                    )
                numbers[key] = _within(text, value, 1, _INT32_MAX)
    config = TraceConfig(
        mode="opentelemetry" if fields.pop("mode", "") == "opentelemetry" else "triton",
        settings=TraceSettings(levels=_known_levels(levels), **settings),
        resource=tuple(resource),
        numbers=numbers,
        file=str(fields.get("file", "")),
        url=str(fields.get("url", TraceConfig().url)),
    )
    if config.settings.rate == 0 and config.mode == "triton":
        raise InvalidArgumentError("--trace-config=rate=0: one request in how many is traced?")
    if config.settings.levels and config.mode == "triton" and not config.file:
        raise InvalidArgumentError(
            "--trace-config=level=... needs a file for the traces: "
            "--trace-config=triton,file=<file>"
        )
    return config


def _known_levels(names: Iterable[str]) -> tuple[str, ...]:
    wrong = [name for name in names if name not in _LEVELS and name != "OFF"]
    if wrong:
        raise InvalidArgumentError(
            f"--trace-config=level={wrong[0]}: expected OFF, TIMESTAMPS or TENSORS"
        )
    return _levels(list(names)) or ()


def _wrong(text: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid value for --trace-config={text}: expected {expected}")


def _within(text: str, value: str, low: int, high: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise _wrong(text, f"an integer from {low} to {high}")
    return number


# --- changes --------------------------------------------------------------------------------------


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What clients have set; None is left to whoever comes next."""

    levels: tuple[str, ...] | None = None
    rate: int | None = None
    count: int | None = None
    log_frequency: int | None = None

    def over(self, settings: TraceSettings) -> TraceSettings:
        """These settings where they are set, and the given ones elsewhere."""
        own = msgspec.structs.asdict(self)
        return msgspec.structs.replace(
            settings, **{name: value for name, value in own.items() if value is not None}
        )


def changed(overrides: Overrides, changes: Mapping[str, list[str] | None], space: str) -> Overrides:
    """The overrides after a client's changes: the values of settings by name, None to clear one.

    `space` comes before the value in one of the errors: Triton has none there over HTTP. Raises
    InvalidArgumentError for a wrong value, UnsupportedError for the file.
    """
    if "trace_file" in changes:
        raise UnsupportedError("trace file location can not be updated through network protocol")
    fields: dict[str, object] = {}
    for name, values in changes.items():
        if name == "trace_level":
            if not values:
                fields["levels"] = None
            elif (levels := _levels(values)) is not None:
                fields["levels"] = levels
        elif name in _READERS:
            if values and len(values) != 1:
                raise InvalidArgumentError(f"expect only 1 value for '{name}'")
            field = name.removeprefix("trace_")
            fields[field] = _READERS[name](name, values[0], space) if values else None
    return msgspec.structs.replace(overrides, **fields)


def _levels(names: list[str]) -> tuple[str, ...] | None:
    """The levels in their order; None when no name is known."""
    if "OFF" in names:
        if len(names) > 1:
            raise InvalidArgumentError("Expect only one trace level 'OFF' is specified")
        return ()
    known = {_LEVELS[name] for name in names if name in _LEVELS}
    return tuple(level for level in ("TIMESTAMPS", "TENSORS") if level in known) or None


def _read(name: str, text: str, low: int, high: int) -> int:
    found = _NUMBER.match(text)
    if found is None:
        raise InvalidArgumentError(f"Unable to parse '{name}', got: {text}")
    number = int(found[1]) if len(found[1]) <= 20 else high + 1
    if not low <= number <= high:
        raise InvalidArgumentError(
            f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {text}"
        )
    return number


def _read_rate(name: str, text: str, _: str) -> int:
    rate = _read(name, text, 0, _UINT32_MAX)
    if rate == 0:
        raise InvalidArgumentError(
            "Attempting to set invalid trace setting :sample rate must be non-zero"
        )
    return rate


def _read_count(name: str, text: str, space: str) -> int:
    count = _read(name, text, -_INT32_MAX - 1, _INT32_MAX)
    if count < -1:
        raise InvalidArgumentError(
            f"Unable to parse '{name}'. Expecting value >= -1, got:{space}{text}"
        )
    if count == 0:
        raise InvalidArgumentError(
            "Attempting to set invalid trace setting :trace count must be non-zero, or -1 for all; "
            "set trace_level to OFF to trace nothing"
        )
    return count


def _read_frequency(name: str, text: str, _: str) -> int:
    return _read(name, text, 0, _UINT32_MAX)


_READERS = {
    "trace_rate": _read_rate,
    "trace_count": _read_count,
    "log_frequency": _read_frequency,
}


# --- sampling -------------------------------------------------------------------------------------


class Sampler:
    """Decides which requests are traced; `left` is how many more may be, -1 for all."""

    __slots__ = ("_seen", "left", "settings")

    def __init__(self, settings: TraceSettings) -> None:
        self.settings = settings
        self.left = settings.count
        self._seen = 0

    def takes(self, forced: bool) -> bool:
        """Whether the next request is traced; `forced` when its client's own trace goes on."""
        settings = self.settings
        if not settings.levels:
            return False
        if forced:
            return True
        if self.left == 0 or settings.rate == 0:
            return False
        self._seen += 1
        if self._seen % settings.rate:
            return False
        if self.left > 0:
            self.left -= 1
        return True


class TraceTable:
    """The settings of all models: those in force, and what clients have overridden."""

    def __init__(self, settings: TraceSettings) -> None:
        self._begin = settings
        self._global = Overrides()
        self._models: dict[str, Overrides] = {}
        self._shared = Sampler(settings)
        self._own: dict[str, Sampler] = {}

    @property
    def is_on(self) -> bool:
        """Whether any request may be traced."""
        return any(one.settings.levels for one in (self._shared, *self._own.values()))

    def sampler(self, model: str) -> Sampler:
        """Who decides for a model, or ("") for those without settings of their own."""
        return self._own.get(model, self._shared)

    def update(self, model: str, changes: Mapping[str, list[str] | None], space: str) -> None:
        """Change a model's settings, or ("") the global ones. Raises what `changed` does."""
        if model:
            overrides = changed(self._models.get(model, Overrides()), changes, space)
            self._models[model] = overrides
            if overrides == Overrides():
                del self._models[model]
        else:
            self._global = changed(self._global, changes, space)
            self._shared = Sampler(self._global.over(self._begin))
        common = self._shared.settings
        self._own = {
            name: self._kept(name, overrides.over(common))
            for name, overrides in self._models.items()
        }

    def _kept(self, model: str, settings: TraceSettings) -> Sampler:
        """The model's sampler: the one that it has, unless its settings are others now."""
        sampler = self._own.get(model)
        if sampler is not None and sampler.settings == settings:
            return sampler
        return Sampler(settings)
