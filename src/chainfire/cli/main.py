"""`chainfire`: which commands there are, and how an error becomes a message and an exit code.

A command's module is imported when the command is run, so that `version` and
`--help` cost neither gRPC nor an event loop. Exit codes are etcdctl's.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import click

from chainfire.cli.common import global_options
from chainfire.errors import ChainfireError

EXIT_ERROR, EXIT_IO, EXIT_INTERRUPTED, EXIT_BAD_ARGUMENTS = 1, 6, 5, 128


class Entry(NamedTuple):
    module: str
    help: str


COMMANDS: Final = {
    "serve": Entry("serve", "Run a member of a cluster"),
    "etcd": Entry("etcd", "Run a member with etcd's command line, variables and YAML file"),
    "config": Entry("config", "Check a configuration, print it, or write an example"),
    "get": Entry("get", "Read keys"),
    "put": Entry("put", "Write a key"),
    "del": Entry("delete", "Delete keys"),
    "txn": Entry("txn", "Compare, then read and write, all at once"),
    "watch": Entry("watch", "Print what changes, as it happens"),
    "lease": Entry("lease", "Grant, renew, look at and end leases"),
    "lock": Entry("lock", "Hold a lock, or run a program under it"),
    "elect": Entry("elect", "Stand for election, or listen to who leads"),
    "compact": Entry("compact", "Forget history before a revision"),
    "snapshot": Entry("snapshot", "Save a member's state, look at it, start a cluster from it"),
    "status": Entry("status", "Show how the members are"),
    "member": Entry("member", "List, add, remove, update or promote members"),
    "move-leader": Entry("move_leader", "Let another member lead"),
    "endpoint": Entry("endpoint", "Show health, status or hash of each endpoint"),
    "alarm": Entry("alarm", "List or disarm alarms"),
    "defrag": Entry("defrag", "Ask members to give disk space back"),
    "bench": Entry("bench_commands", "Measure how fast a server is"),
    "sim": Entry("sim", "Simulate clusters under faults and check what they promise"),
    "version": Entry("version", "Print the versions of Chainfire and of the API"),
}
ALIASES: Final = {"compaction": "compact", "delete": "del"}

EPILOG = """\b
Examples:
  chainfire serve --data-dir=/var/lib/chainfire
  chainfire put greeting hello
  chainfire get --prefix greet
  chainfire --endpoints=http://10.0.0.1:2379,http://10.0.0.2:2379 status

`chainfire COMMAND --help` tells more about each."""


class Commands(click.Group):
    """A group whose commands are modules of this package, found by COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        command = importlib.import_module(f"chainfire.cli.{entry.module}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in {*COMMANDS, *ALIASES}:
            from chainfire.config.problems import nearest

            hint = nearest(args[0], COMMANDS)
            ctx.fail(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.invoke(importlib.import_module("chainfire.cli.version").command)
        ctx.exit()


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the versions and end.",
)
@global_options
@click.pass_context
def chainfire(ctx: click.Context, /, **options: object) -> None:
    """Chainfire: a distributed, strongly consistent key-value store, an etcd v3 drop-in."""
    ctx.obj = options


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Always ends by SystemExit."""
    try:
        code = chainfire.main(
            None if arguments is None else list(arguments),
            prog_name="chainfire",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.UsageError as exc:
        exc.show()
        sys.exit(EXIT_BAD_ARGUMENTS)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except ChainfireError as exc:
        sys.exit(_tell(exc))
    except BrokenPipeError:  # the reader has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except OSError as exc:
        click.echo(f"Error: {exc}", err=True)
        sys.exit(EXIT_IO)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(exc: ChainfireError) -> int:
    from chainfire.cli.failures import explain

    explanation = explain(exc)
    click.echo(f"Error: {explanation.text}", err=True)
    if explanation.advice:
        click.echo(f"Try: {explanation.advice}", err=True)
    return explanation.exit_code
