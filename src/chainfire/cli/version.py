"""`chainfire version`."""

from __future__ import annotations

import click

from chainfire.version import API_VERSION, VERSION


@click.command("version")
def command() -> None:
    """Print the version of Chainfire and of the etcd API that it speaks."""
    click.echo(f"chainfire version: {VERSION}")
    click.echo(f"API version: {API_VERSION}")
