"""`chainfire lock`."""

from __future__ import annotations

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.contending import ended_by_signals, hold, run_under, tell
from chainfire.cli.kv_options import to_bytes

EPILOG = """\b
Examples:
  chainfire lock backup
  chainfire lock --ttl=30 backup tar czf /backup/all.tgz /srv"""


@client_command("lock", epilog=EPILOG)
@click.argument("name")
@click.argument("program", metavar="[PROGRAM ARGS...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--ttl",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds after which it is free when this process dies.",
)
def command(shared: Options, name: str, program: tuple[str, ...], ttl: float) -> int:
    """Wait for a lock, then hold it until interrupted, or run PROGRAM under it.

    Without a PROGRAM the lock's key is printed once it is held. A PROGRAM finds
    the key in ETCD_LOCK_KEY, and in ETCD_LOCK_REV a number that grows from holder
    to holder: what is guarded can refuse those that come with a lower one.
    Options stand before NAME.
    """
    shared.write_out("simple")
    with (
        ended_by_signals(),
        shared.client() as client,
        client.session(ttl) as session,
        session.lock(to_bytes(name)) as held,
    ):
        if program:
            return run_under(session, held, program)
        tell(held.key)
        hold(session)
        return 0


command.context_settings["allow_interspersed_args"] = False  # PROGRAM has options of its own
