"""What `lock` and `elect` share: holding on until a signal, a program's end, or the session's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from chainfire.cli.output import write
from chainfire.errors import SessionExpired

if TYPE_CHECKING:
    from chainfire.client.leasing import Held
    from chainfire.client.syncsessions import SyncSession

NOT_RUN = 126  # a shell's code for a program that cannot be run


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what is held is given back."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tell(*lines: bytes) -> None:
    """Print lines that somebody may be waiting for."""
    write(lines)
    sys.stdout.flush()


def hold(session: SyncSession) -> None:
    """Until a signal comes. Raises SessionExpired."""
    session.until_lost()
    raise SessionExpired


def run_under(session: SyncSession, held: Held, program: Sequence[str]) -> int:
    """Run a program while the lock is held; its exit code. It is ended if the session is lost."""
    environment = {
        **os.environ,
        "ETCD_LOCK_KEY": held.key.decode("utf-8", "surrogateescape"),
        "ETCD_LOCK_REV": str(held.revision),
    }
    sys.stdout.flush()
    try:
        process = subprocess.Popen(program, env=environment)
    except OSError as exc:
        click.echo(f"Error: {program[0]}: {exc.strerror}", err=True)
        return NOT_RUN
    with process:
        done = threading.Event()
        watcher = threading.Thread(target=_end_with, args=(session, process, done), daemon=True)
        watcher.start()
        try:
            code = process.wait()
        finally:
            done.set()
    if session.is_lost:
        raise SessionExpired
    return code if code >= 0 else 128 - code


def _end_with(
    session: SyncSession, process: subprocess.Popen[bytes], done: threading.Event
) -> None:
    while not done.wait(0.1):
        if session.is_lost:
            process.terminate()
            return
