"""`chainfire put`."""

from __future__ import annotations

from typing import Any

from chainfire.cli.common import Options, client_command
from chainfire.cli.kv_options import put_options, put_request
from chainfire.cli.output import printer, write

EPILOG = """\b
Examples:
  chainfire put greeting hello
  chainfire put logo < logo.png
  chainfire put -- -key-with-a-dash value"""


@client_command("put", epilog=EPILOG)
@put_options
def command(shared: Options, **parameters: Any) -> None:
    """Write VALUE, or what standard input holds, under KEY."""
    from chainfire.client.calls import put_call

    out = printer(shared.write_out("simple", "fields", "json"), hex=shared.hex)
    request = put_request(**parameters)
    with shared.client() as client:
        write(out.lines(client.call(put_call(request))))
