"""The help texts of `serve` and `etcd`, written from the schema."""

from __future__ import annotations

import textwrap

import click

from chainfire.config.show import flag_lines


def server_help(usage: str, intro: str, examples: str) -> str:
    lines = [usage, "", *textwrap.wrap(intro, 92), "", "Examples:", textwrap.indent(examples, "  ")]
    section = ""
    for sentence, flag, text in flag_lines():
        if sentence != section:
            lines += ["", sentence]
            section = sentence
        lines.append(f"  {click.style(flag, bold=True)}")
        lines += textwrap.wrap(
            text, 92, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False
        )
    return "\n".join(lines)
