"""Script files: directives, their input, and the output that is expected of each.

    # a comment
    verb argument key=value key=(a, b, c)
    input lines
    ----
    expected lines, up to a blank one

The language of cockroachdb/datadriven, as far as scripts about Raft use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_ARGUMENT = re.compile(r"([^\s=]+)(=(?:\(([^)]*)\)|(\S*)))?")


@dataclass(frozen=True)
class Directive:
    place: str  # file:line
    verb: str
    arguments: tuple[str, ...]  # those without a key
    options: dict[str, tuple[str, ...]]
    input: str
    expected: str
    output: tuple[int, int] = (0, 0)  # lines of the file, counted from 0, where it stands

    @property
    def ids(self) -> list[int]:
        return [int(argument) for argument in self.arguments]

    def option(self, key: str, default: str = "") -> str:
        values = self.options.get(key)
        return values[0] if values else default

    def flag(self, key: str, default: bool = False) -> bool:
        return self.option(key, str(default)).lower() == "true"


def parse(path: Path) -> Iterator[Directive]:
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        at += 1
        if not line or line.startswith("#"):
            continue
        place = f"{path.name}:{at}"
        while line.endswith("\\"):
            line = line[:-1].rstrip() + " " + lines[at].strip()
            at += 1
        given = []
        while at < len(lines) and lines[at] != "----":
            given.append(lines[at])
            at += 1
        assert at < len(lines), f"{place}: no line of four dashes"
        at += 1
        start = at
        while at < len(lines) and lines[at].strip():
            at += 1
        expected = [line.rstrip() for line in lines[start:at]]
        directive = _directive(place, line, "\n".join(given), "\n".join(expected))
        yield replace(directive, output=(start, at))


def rewrite(path: Path, outputs: list[tuple[Directive, str]]) -> None:
    """Put what was printed where it was expected. Read the diff, keep only what you understand."""
    lines = path.read_text().splitlines()
    for directive, printed in reversed(outputs):
        start, end = directive.output
        lines[start:end] = printed.rstrip("\n").splitlines()
    path.write_text("\n".join(lines).rstrip("\n") + "\n")


def _directive(place: str, line: str, given: str, expected: str) -> Directive:
    verb, _, rest = line.partition(" ")
    arguments: list[str] = []
    options: dict[str, tuple[str, ...]] = {}
    for found in _ARGUMENT.finditer(rest):
        key, assigned, several, one = found.groups()
        if not assigned:
            arguments.append(key)
        elif several is not None:
            options[key] = tuple(value.strip() for value in several.split(",") if value.strip())
        else:
            options[key] = (one,)
    return Directive(place, verb, tuple(arguments), options, given, expected)


_LOG_LINE = re.compile(r"^\s*(DEBUG|INFO|WARN|ERROR) ")


def without_log_lines(output: str) -> str:
    """What remains once the narration of the original implementation is taken out."""
    kept = [line for line in output.splitlines() if not _LOG_LINE.match(line)]
    return "\n".join(kept).strip("\n") or "ok"
