"""What is typed into `chainfire watch -i`, as etcdctl takes it.

    watch [FLAGS] KEY [RANGE_END] [-- COMMAND…]    one more watch, beside those there are
    progress                                       ask each of them how far it has seen

A line that is neither is told and passed over; wrong flags, a program that fails and the end of the
input end everything. Each watch has a thread that tells of its changes, one response at a time.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from chainfire.cli.go_text import split_words
from chainfire.cli.kv_options import watch_options
from chainfire.cli.txn_grammar import BadLine
from chainfire.errors import RequestError

if TYPE_CHECKING:
    from chainfire.client.sync import SyncWatch
    from chainfire.client.values import Changes

Program = list[str]
Open: TypeAlias = "Callable[[dict[str, Any]], SyncWatch]"
Tell: TypeAlias = "Callable[[Changes, Program | None], None]"


def split_program(words: list[str]) -> tuple[list[str], Program | None]:
    """What stands before and behind `--`. Raises UsageError where nothing stands behind it."""
    if "--" not in words:
        return words, None
    at = words.index("--")
    if not words[at + 1 :]:
        raise click.UsageError("nothing to run stands behind --")
    return words[:at], words[at + 1 :]


class Typed:
    def __init__(self, open_watch: Open, tell: Tell) -> None:
        self._open = open_watch
        self._tell = tell
        self._telling = threading.Lock()
        self._watches: list[SyncWatch] = []
        self._events: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def obey(self, lines: Iterable[str]) -> None:
        """Until something ends it, which is raised."""
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        while True:
            event = self._events.get()
            if isinstance(event, Exception):
                raise event
            self._take(event)

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._events.put(line)
        self._events.put(BadLine("error reading watch request line: EOF"))

    def _take(self, line: str) -> None:
        try:
            words = [os.fsdecode(word) for word in split_words(line)]
        except ValueError as exc:
            raise BadLine(f"{line}: {exc}") from exc
        match words:
            case []:
                _told(line, "watch and progress supported")
            case ["watch"]:
                _told(line, "command type or key is not provided")
            case ["watch", *rest]:
                self._begin(rest)
            case ["progress", *_]:
                for watch in self._watches:
                    watch.request_progress()
            case _:
                _told(line, "only support watch")

    def _begin(self, words: list[str]) -> None:
        words, program = split_program(words)
        parameters = _line.make_context("watch", words).params
        if parameters["key"] is None:
            raise click.UsageError("the key to watch is missing")
        watch = self._open(parameters)
        self._watches.append(watch)
        threading.Thread(target=self._follow, args=(watch, program), daemon=True).start()

    def _follow(self, watch: SyncWatch, program: Program | None) -> None:
        try:
            for changes in watch:
                with self._telling:
                    self._tell(changes, program)
        except RequestError as exc:  # this watch is over, the others go on
            click.echo(f"watch was canceled ({exc})", err=True)
        except Exception as exc:
            self._events.put(exc)


def _told(line: str, why: str) -> None:
    click.echo(f"Invalid command {line.strip()} ({why})", err=True)


@click.command("watch", add_help_option=False)
@watch_options
def _line(**_: object) -> None:
    """Only its parameters are of use."""
