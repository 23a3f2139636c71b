"""`chainfire serve`: a member under Chainfire's own rules of configuration."""

from __future__ import annotations

import os

import click

from chainfire.cli.server_help import server_help
from chainfire.cli.serving import RawCommand, serve
from chainfire.config import serve as rules
from chainfire.config.arguments import split_arguments

INTRO = """Run a member. Options come from a TOML file (--config-file, or CHAINFIRE_CONFIG_FILE),
then from the environment (CHAINFIRE_ and the flag in capitals, - as _), then from flags; the later
one counts. `chainfire config example` writes such a file, `chainfire config print` shows what is in
force and where it came from."""
EXAMPLES = """chainfire serve
chainfire serve --data-dir=/var/lib/chainfire --log-format=json
chainfire serve --listen-client-urls=http://0.0.0.0:2379 --advertise-client-urls=http://10.0.0.1:2379
chainfire serve --config-file=/etc/chainfire/chainfire.toml"""


@click.command("serve", cls=RawCommand)
def command(arguments: tuple[str, ...]) -> int:
    """Run a member of a cluster."""
    split = split_arguments(arguments, rules.is_bool)
    if split.is_set("help") or split.is_set("h"):
        click.echo(server_help("Usage: chainfire serve [OPTIONS]", INTRO, EXAMPLES))
        return 0
    return serve(rules.load(arguments, os.environ))
