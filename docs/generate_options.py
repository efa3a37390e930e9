"""Write docs/options.md from the option table, or with --check tell whether it is fresh."""

import sys
from pathlib import Path

from tritonpy.supervisor.options import SECTIONS, Option, default_text  # noqa: TID251 - not in the package

PAGE = Path(__file__).with_name("options.md")

HEAD = """\
# Options of `tritonpy-supervisor serve`

<!-- Written by docs/generate_options.py from supervisor/options.py: change the table, not this. -->

The options are tritonserver's own, under its names, and a few more that are marked as ours. They
are written `--name=value` or `--name value`. Booleans are `true`, `on` or `1`, and `false`, `off`
or `0`. An option that may be repeated accumulates; of any other the last one counts. `--help` lists
them all.

An option that tritonserver has and this server does not heed yet is accepted, and the log says so
once; here it is marked *no effect yet*. An option that nobody knows is refused, with the nearest
known one, and the exit status is 1.

Where the command line differs from tritonserver's:

- `--help` prints to standard output and exits with status 0.
- `--exit-on-error` is `false` unless given: a model that fails to load is shown with its reason,
  and the others are served.
- Port 0 picks a free port; the log says which.
- A number must be one as a whole: `80x` is refused, not read as 80. Names of options cannot be
  shortened.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for title, options in SECTIONS.items():
        lines += [f"## {title}", "", "| Option | Value | Default | Meaning |", "|---|---|---|---|"]
        lines += [_row(option) for option in options]
        lines.append("")
    return "\n".join(lines)


def _row(option: Option) -> str:
    meaning = option.help
    if option.many:
        meaning += " May be repeated."
    if option.instead:
        meaning += f" Deprecated: use {_code(option.instead)}."
    if not option.field:
        meaning += " *No effect yet.*"
    default = default_text(option)
    cells = (
        _code(f"--{option.name}"),
        _code(option.kind.metavar),
        default if " " in default else _code(default),
    )
    return f"| {' | '.join(cells)} | {_plain(meaning)} |"


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`" if text else ""


def _plain(text: str) -> str:
    """Keep what looks like an HTML tag or an emphasis from being taken for one."""
    return (
        text.replace("; * alone", "; `*` alone")
        .replace("<name>", "`<name>`")
        .replace("<key>", "`<key>`")
    )


def main(arguments: list[str]) -> int:
    """Write the page; with --check compare instead, and return 1 when it is stale."""
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print(f"{PAGE.name} is stale: run docs/generate_options.py", file=sys.stderr)
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
