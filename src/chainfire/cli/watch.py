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

if TYPE_CHECKING:
    from chainfire.client.values import Change, Changes

EPILOG = """\b
Examples:
  chainfire watch greeting
  chainfire watch --prefix jobs/ --prev-kv
  chainfire watch --prefix jobs/ --rev=1
  chainfire watch --prefix jobs/ -- sh -c 'echo "$ETCD_WATCH_KEY is $ETCD_WATCH_VALUE"'"""


_PROGRAM = "chainfire.watch.program"  # in the context's notes


class _WithProgram(click.Command):
    """Takes what stands behind `--` for a program to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_PROGRAM] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)


@client_command("watch", epilog=EPILOG, cls=_WithProgram)
@watch_options
def command(
    shared: Options, rev: int, prev_kv: bool, progress_notify: bool, **parameters: Any
) -> None:
    """Print what happens to KEY, or to the keys from KEY up to and without RANGE_END.

    For each change PUT or DELETE, the key and the value, on a line each. What
    follows -- is run for each change instead, with ETCD_WATCH_REVISION,
    ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE set. It goes on
    over lost connections, and misses nothing.
    """
    shared.write_out("simple")
    key, range_end = watch_range(**parameters)
    program = click.get_current_context().meta.get(_PROGRAM)
    with (
        shared.client() as client,
        client.watch_range(
            key, range_end, start_revision=rev, previous=prev_kv, progress=progress_notify
        ) as watch,
    ):
        for changes in watch:
            if program:
                _run(program, changes)
            else:
                for line in _lines(changes, hex=shared.hex):
                    sys.stdout.buffer.write(line + b"\n")
                sys.stdout.buffer.flush()


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
