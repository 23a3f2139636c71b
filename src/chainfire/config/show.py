"""A configuration as text: the commented example, and a loaded one with its origins. Both TOML."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping

from chainfire.config.kinds import URLS
from chainfire.config.schema import OPTIONS, Config, Option
from chainfire.config.serve import PREFIX
from chainfire.config.urls import show_urls

_HEAD = """\
# Chainfire's configuration, as `chainfire config example` writes it. Every line is
# the default; remove the "#" in front of a key to change it. An environment
# variable overrides this file, a flag overrides both.
"""


def example() -> str:
    """A commented TOML file with every option at its default."""
    return _HEAD + "".join(f"{line}\n" for line in _example_lines())


def _example_lines() -> Iterator[str]:
    for section, option in _with_sections():
        if section is not None:
            yield from ("", f"# {section}", f"[{option.section}]")
        yield ""
        yield from textwrap.wrap(
            option.doc, 88, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
        yield f"# (--{option.flag}, {option.environment(PREFIX)})"
        yield f"#{option.field} = {option.kind.show(option.default)}"


def effective(config: Config, origins: Mapping[str, str]) -> str:
    """Every value in force, and behind it where it came from."""
    lines: list[str] = []
    for section, option in _with_sections():
        if section is not None:
            lines += ["", f"[{option.section}]"] if lines else [f"[{option.section}]"]
        value = f"{option.field} = {option.kind.show(option.get(config))}"
        lines.append(f"{value:<64} # {origins[option.key]}")
    return "\n".join(lines) + "\n"


def flag_lines() -> Iterator[tuple[str, str, str]]:
    """(section's sentence, flag with its kind, what it does with its default) for help texts."""
    sentence = ""
    for section, option in _with_sections():
        sentence = section or sentence
        shown = option.kind.show(option.default)
        default = show_urls(option.default) if option.kind is URLS else shown.strip('"')
        yield (
            sentence,
            f"--{option.flag} {option.kind.name}",
            f"{option.doc} [default: {default or 'none'}]",
        )


def _with_sections() -> Iterator[tuple[str | None, Option]]:
    """Every option; the first of a section comes with the section's sentence."""
    sentences = {
        section.name: (type(section.default).__doc__ or "")
        for section in dataclasses.fields(Config)
    }
    previous = ""
    for option in OPTIONS:
        yield (sentences[option.section] if option.section != previous else None), option
        previous = option.section
