"""`chainfire del`."""

from __future__ import annotations

from typing import Any

from chainfire.cli.common import Options, client_command
from chainfire.cli.kv_options import delete_options, delete_request
from chainfire.cli.output import printer, write

EPILOG = """\b
Examples:
  chainfire del greeting
  chainfire del --prefix jobs/ --prev-kv
  chainfire del a c        # a, b and all between, without c"""


@client_command("del", epilog=EPILOG)
@delete_options
def command(shared: Options, **parameters: Any) -> None:
    """Delete KEY, or the keys from KEY up to and without RANGE_END; print how many there were."""
    from chainfire.client.calls import delete_call

    out = printer(shared.write_out("simple", "fields", "json"), hex=shared.hex)
    request = delete_request(**parameters)
    with shared.client() as client:
        write(out.lines(client.call(delete_call(request))))
