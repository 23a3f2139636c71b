"""`chainfire version`."""

from __future__ import annotations

from importlib.util import find_spec

import click

from chainfire.version import API_VERSION, VERSION


@click.command("version")
def command() -> None:
    """Print the version of Chainfire and of the etcd API that it speaks, and the door.

    The door is the gRPC server that clients are served by: native where its wheel is installed,
    otherwise grpcio.
    """
    click.echo(f"chainfire version: {VERSION}")
    click.echo(f"API version: {API_VERSION}")
    click.echo(f"door: {'native' if find_spec('chainfire_native') else 'grpcio'}")
