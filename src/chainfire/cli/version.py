"""`chainfire version`."""

from __future__ import annotations

import click

from chainfire.version import API_VERSION, VERSION
from chainfire.wheel import FAULT


@click.command("version")
def command() -> None:
    """Print the version of Chainfire and of the etcd API that it speaks, and the door.

    The door is the gRPC server that clients are served by: native where the wheel that belongs to
    this version is installed, otherwise grpcio, and why.
    """
    click.echo(f"chainfire version: {VERSION}")
    click.echo(f"API version: {API_VERSION}")
    click.echo("door: native" if FAULT is None else f"door: grpcio; {FAULT}")
