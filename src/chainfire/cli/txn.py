"""`chainfire txn`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.output import printer, write
from chainfire.cli.txn_grammar import parse_txn

PROMPTS = (
    "compares:",
    "success requests (get, put, del):",
    "failure requests (get, put, del):",
)
EPILOG = """\b
Three blocks, separated by empty lines: comparisons, commands if all hold, commands if not.
\b
Example:
  chainfire txn <<'END'
  mod("greeting") > "0"
\b
  put greeting "hello again"
\b
  put greeting hello
  END
\b
Comparisons: create, mod, version, value or lease of a key, with =, !=, < or >."""


@client_command("txn", epilog=EPILOG)
@click.option("-i", "--interactive", is_flag=True, help="Ask for each block.")
def command(shared: Options, interactive: bool) -> None:
    """Read a transaction from standard input and carry it out, all at once."""
    from chainfire.client.calls import txn_call

    out = printer(shared.write_out("simple", "fields", "json"), hex=shared.hex)
    request = parse_txn(_prompted() if interactive else _lines())
    with shared.client() as client:
        write(out.lines(client.call(txn_call(request))))


def _lines() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "surrogateescape")


def _prompted() -> Iterator[str]:
    """The lines, with each block announced before it is read."""
    lines = _lines()
    for prompt in PROMPTS:
        click.echo(prompt)
        for line in lines:
            yield line
            if not line.strip():
                break
