"""`chainfire config check|print|example`."""

from __future__ import annotations

import os

import click

from chainfire.cli.serving import RawCommand
from chainfire.config import serve as rules
from chainfire.config import show
from chainfire.config.layers import Loaded

_SEE = "\b\nExamples:\n  chainfire config {0} chainfire.toml\n  chainfire config {0} --name=n1"


class ServerArguments(RawCommand):
    """A command that takes what `serve` takes; a first plain word is the file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(argument in ("-h", "--help") for argument in args):
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[FILE] [OPTIONS OF SERVE]")


@click.group("config", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Check a configuration, print it, or write an example.

    What counts is what `chainfire serve` would find: the file, CHAINFIRE_* variables, flags.
    """


def _load(arguments: tuple[str, ...]) -> Loaded:
    if arguments and not arguments[0].startswith("-"):
        arguments = (f"--config-file={arguments[0]}", *arguments[1:])
    return rules.load(arguments, os.environ)


@command.command("check", cls=ServerArguments, epilog=_SEE.format("check"))
def check(arguments: tuple[str, ...]) -> None:
    """Say whether `serve` could use it; every problem is listed. Exit code 2 if there is one."""
    _load(arguments)
    click.echo("the configuration is valid")


@command.command("print", cls=ServerArguments, epilog=_SEE.format("print"))
def print_(arguments: tuple[str, ...]) -> None:
    """Print every value in force and where it came from, as a TOML file."""
    loaded = _load(arguments)
    click.echo(show.effective(loaded.config, loaded.origins), nl=False)


@command.command("example", epilog="\b\nExample:\n  chainfire config example > chainfire.toml")
def example() -> None:
    """Print a commented TOML file with every option at its default."""
    click.echo(show.example(), nl=False)
