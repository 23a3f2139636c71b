"""What is wrong with a configuration: collected, then raised all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chainfire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """`where` names the key as the user wrote it, `wanted` says what is allowed."""

    where: str
    wanted: str
    given: str | None = None

    def __str__(self) -> str:
        given = "" if self.given is None else f" = {self.given!r}"
        return f"{self.where}{given}: {self.wanted}"


def show_given(value: object) -> str:
    """What the user gave, short enough for an error line. Never raises."""
    try:
        text = str(value)
    except (ValueError, RecursionError):  # numbers of thousands of digits, endless nesting
        return "…"
    return text if len(text) <= 200 else f"{text[:200]}…"


def raise_if_any(problems: Sequence[Problem]) -> None:
    if len(problems) == 1:
        raise ConfigError(str(problems[0]))
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} problems in the configuration:{lines}")


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` or nothing, to be appended to an error about an unknown name."""
    from difflib import get_close_matches  # only after a mistake

    found = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
