"""`chainfire etcd`: a member under etcd's command line, variables and file."""

from __future__ import annotations

import os
import platform
import sys

import click

from chainfire.cli.server_help import server_help
from chainfire.cli.serving import RawCommand, serve
from chainfire.config import etcd as rules
from chainfire.config.arguments import split_arguments
from chainfire.version import API_VERSION, VERSION

INTRO = """Run a member where etcd was run: the same command line, ETCD_* variables or YAML file
(--config-file), under etcd's rules. A flag and its variable may not both be set; with a file all
else is ignored. Flags of etcd that are not listed here are accepted with a warning that says why
they have no effect."""
EXAMPLES = """chainfire etcd --name=n1 --data-dir=/var/lib/etcd
chainfire etcd --config-file=/etc/etcd/etcd.yaml
ETCD_NAME=n1 ETCD_SNAPSHOT_COUNT=50000 chainfire etcd"""
PROXIES = ("gateway", "grpc-proxy")


@click.command("etcd", cls=RawCommand)
def command(arguments: tuple[str, ...]) -> int:
    """Run a member with etcd's command line, variables and YAML file."""
    if arguments and arguments[0] in PROXIES:
        raise click.UsageError(f"`etcd {arguments[0]}` has no counterpart here")
    split = split_arguments(arguments, rules.is_bool)
    if split.is_set("help") or split.is_set("h"):
        click.echo(server_help("Usage: chainfire etcd [OPTIONS]", INTRO, EXAMPLES))
        return 0
    if split.is_set("version"):
        click.echo(version_text())
        return 0
    return serve(rules.load(arguments, os.environ))


def version_text() -> str:
    """etcd's four lines; scripts read the first."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return "\n".join(
        (
            f"etcd Version: {API_VERSION}",
            f"Git SHA: none (Chainfire {VERSION})",
            f"Go Version: none (Python {platform.python_version()})",
            f"Go OS/Arch: {sys.platform}/{machine}",
        )
    )
