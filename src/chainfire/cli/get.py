"""`chainfire get`."""

from __future__ import annotations

from typing import Any

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.kv_options import flag, get_options, get_request, options
from chainfire.cli.output import printer, write

EPILOG = """\b
Examples:
  chainfire get greeting
  chainfire get --prefix jobs/ --limit=10
  chainfire get --prefix "" --count-only
  chainfire get greeting --rev=7 -w json"""


@client_command("get", epilog=EPILOG)
@options(get_options, flag("--print-value-only", "Print the values without their keys."))
def command(shared: Options, print_value_only: bool, **parameters: Any) -> None:
    """Read KEY, or the keys from KEY up to and without RANGE_END, in key order.

    Each key is printed on a line and its value on the next.
    """
    from chainfire.client.calls import range_call

    write_out = shared.write_out("simple", "fields", "json")
    request = get_request(**parameters)
    with shared.client() as client:
        reply = client.call(range_call(request))
    if request.count_only and write_out == "simple":
        click.echo(reply.count)
    else:
        write(printer(write_out, hex=shared.hex, values_only=print_value_only).lines(reply))
