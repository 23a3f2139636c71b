"""Commands in our documents as data.

A fenced block marked `sh` holds commands, one marked `python` is a program. One marked `console` is
a session: lines that begin with "$ " are commands, the lines below each are what it prints, where
`…` stands for any text and a line of nothing but `…` for any lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(sh|console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY = "…"


@dataclass(frozen=True, slots=True)
class Command:
    text: str
    line: int  # in the document
    output: str | None  # None: not said


def commands(document: Path) -> list[Command]:
    text = document.read_text()
    found: list[Command] = []
    for block in FENCE.finditer(text):
        first = text.count("\n", 0, block.start(2)) + 1
        found += READERS[block[1]](block[2], first)
    return found


def _program(block: str, first: int) -> list[Command]:
    return [Command(f"python - <<'END'\n{block}END", first, None)]


def _script(block: str, first: int) -> list[Command]:
    lines = block.splitlines()
    return [Command(line, first + i, None) for i, line in enumerate(lines) if line]


def _session(block: str, first: int) -> list[Command]:
    found = []
    for part in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        line = first + block.count("\n", 0, part.start())
        found.append(Command(part[1], line, part[2]))
    return found


READERS = {"sh": _script, "console": _session, "python": _program}


def matches(expected: str, actual: str) -> bool:
    """Whether a command printed what the document says; trailing blanks do not count."""
    rows = [
        r"(?:.*\n)*" if row.strip() == ANY else _pattern(row) + r"[ \t]*\n"
        for row in expected.splitlines()
    ]
    text = actual if actual.endswith("\n") or not actual else actual + "\n"
    return re.fullmatch("".join(rows), text) is not None


def _pattern(row: str) -> str:
    return ".*".join(re.escape(part) for part in row.rstrip().split(ANY))
