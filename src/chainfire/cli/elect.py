"""`chainfire elect`."""

from __future__ import annotations

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.contending import ended_by_signals, hold, tell
from chainfire.cli.kv_options import to_bytes

EPILOG = """\b
Examples:
  chainfire elect board "$(hostname)"
  chainfire elect --listen board"""


@client_command("elect", epilog=EPILOG)
@click.argument("name")
@click.argument("value", required=False)
@click.option("-l", "--listen", is_flag=True, help="Print who is elected, as it happens.")
@click.option(
    "--ttl",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds after which another one is elected when this process dies.",
)
def command(shared: Options, name: str, value: str | None, listen: bool, ttl: float) -> None:
    """Stand for election with VALUE, and lead until interrupted; or listen to who leads.

    Key and value of who is elected are printed, on a line each.
    """
    shared.write_out("simple")
    if listen == (value is not None):
        raise click.UsageError("either a value to be elected with, or --listen")
    with ended_by_signals(), shared.client() as client:
        if value is None:
            for leader in client.observe(to_bytes(name)):
                tell(leader.key, leader.value)
            return
        with (
            client.session(ttl) as session,
            session.elect(to_bytes(name), to_bytes(value)) as leadership,
        ):
            tell(leadership.held.key, to_bytes(value))
            hold(session)
