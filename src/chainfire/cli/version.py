"""`chainfire version`."""

from __future__ import annotations

import click

from chainfire import compiled, wheel
from chainfire.version import API_VERSION, VERSION


@click.command("version")
def command() -> None:
    """Print the version of Chainfire and of the etcd API that it speaks, and the door.

    The door is the gRPC server that clients are served by: native where the wheel that belongs to
    this version is installed, otherwise grpcio, and why. The core is compiled where the wheel that
    was made of these very sources is installed, otherwise interpreted, and why.
    """
    click.echo(f"chainfire version: {VERSION}")
    click.echo(f"API version: {API_VERSION}")
    click.echo("door: native" if wheel.FAULT is None else f"door: grpcio; {wheel.FAULT}")
    core = "compiled" if compiled.FAULT is None else f"interpreted; {compiled.FAULT}"
    click.echo(f"core: {core}")
