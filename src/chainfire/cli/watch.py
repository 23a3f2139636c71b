"""`chainfire watch`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.go_text import quote
from chainfire.cli.kv_options import watch_options, watch_range
from chainfire.cli.output import text_of
from chainfire.cli.watch_typed import Typed, split_program

if TYPE_CHECKING:
    from chainfire.client.sync import SyncClient, SyncWatch
    from chainfire.client.values import Change, Changes

EPILOG = """\b
Examples:
  chainfire watch greeting
  chainfire watch --prefix jobs/ --prev-kv
  chainfire watch --prefix jobs/ --rev=1
  chainfire watch --prefix jobs/ -- sh -c 'echo "$ETCD_WATCH_KEY is $ETCD_WATCH_VALUE"'
  chainfire watch -i

With -i lines are read: `watch [FLAGS] KEY [RANGE_END] [-- COMMAND…]` for one more watch,
`progress` for word of how far each has seen."""


_PROGRAM = "chainfire.watch.program"  # in the context's notes


class _WithProgram(click.Command):
    """Takes what stands behind `--` for a program to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args, ctx.meta[_PROGRAM] = split_program(args)
        return super().parse_args(ctx, args)


@client_command("watch", epilog=EPILOG, cls=_WithProgram)
@watch_options
@click.option("-i", "--interactive", is_flag=True, help="Read what to watch, line by line.")
def command(shared: Options, interactive: bool, **parameters: Any) -> None:
    """Print what happens to KEY, or to the keys from KEY up to and without RANGE_END.

    For each change PUT or DELETE, the key and the value, on a line each. What
    follows -- is run for each change instead, with ETCD_WATCH_REVISION,
    ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE set. It goes on
    over lost connections, and misses nothing.
    """
    shared.write_out("simple")

    def tell(changes: Changes, program: list[str] | None) -> None:
        if program:
            _run(program, changes)
        else:
            for line in _lines(changes, hex=shared.hex):
                sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()

    program = click.get_current_context().meta[_PROGRAM]
    with shared.client() as client:
        if interactive:
            lines = (line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer)
            Typed(lambda typed: _open(client, **typed), tell).obey(lines)
        elif parameters["key"] is None:
            raise click.MissingParameter(param_type="argument", param_hint="'KEY'")
        else:
            with _open(client, **parameters) as watch:
                for changes in watch:
                    tell(changes, program)


def _open(
    client: SyncClient, rev: int, prev_kv: bool, progress_notify: bool, **range_of: Any
) -> SyncWatch:
    key, range_end = watch_range(**range_of)
    return client.watch_range(
        key, range_end, start_revision=rev, previous=prev_kv, progress=progress_notify
    )


def _lines(changes: Changes, *, hex: bool) -> Iterator[bytes]:
    """As etcdctl prints them."""
    if not changes.changes:
        yield b"progress notify: %d" % changes.revision
    for change in changes.changes:
        yield _type(change).encode()
        for kv in (change.previous, change.kv):
            if kv is not None:
                yield text_of(kv.key, hex=hex)
                yield text_of(kv.value, hex=hex)


def _type(change: Change) -> str:
    return "DELETE" if change.is_delete else "PUT"


def _run(program: list[str], changes: Changes) -> None:
    sys.stdout.flush()
    for change in changes.changes:
        told = {
            "ETCD_WATCH_REVISION": str(changes.revision),
            "ETCD_WATCH_EVENT_TYPE": quote(_type(change).encode()),
            "ETCD_WATCH_KEY": quote(change.kv.key),
            "ETCD_WATCH_VALUE": quote(change.kv.value),
        }
        try:
            code = subprocess.run(program, env={**os.environ, **told}, check=False).returncode
        except OSError as exc:
            raise click.ClickException(f"{program[0]}: {exc.strerror}") from exc
        if code:
            raise click.ClickException(f"{program[0]} ended with {code}")
