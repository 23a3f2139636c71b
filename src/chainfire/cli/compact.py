"""`chainfire compact`."""

from __future__ import annotations

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.kv_options import number
from chainfire.cli.output import Fields, Json, write

EPILOG = """\b
Examples:
  chainfire compact 12345
  chainfire compact --physical 12345"""


@client_command("compact", epilog=EPILOG)
@click.argument("revision", type=number(1))
@click.option("--physical", is_flag=True, help="Wait until the space is free.")
def command(shared: Options, revision: int, physical: bool) -> None:
    """Forget history before REVISION: it can no longer be read or watched from there."""
    from chainfire.client.calls import compact_call

    write_out = shared.write_out("simple", "fields", "json")
    with shared.client() as client:
        reply = client.call(compact_call(revision, physical=physical))
    match write_out:
        case "simple":
            click.echo(f"compacted revision {revision}")
        case "json":
            write(Json().lines(reply))
        case _:
            write(line.encode() for line in Fields(hex=shared.hex).header(reply.header))
