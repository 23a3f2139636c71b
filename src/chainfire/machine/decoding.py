"""Log entries to commands: the plain ones by the codec, all others in the general way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chainfire import command
from chainfire.errors import UnknownFormat
from chainfire.machine.foresight import Foresight
from chainfire.machine.handlers import Handler, Handlers
from chainfire.machine.plain import Plain, PlainCommands
from chainfire.proto.command_pb2 import Command
from chainfire.types import Entry, EntryType

_NORMAL: Final = EntryType.NORMAL

Handled = tuple[Command, Handler]
Decoded = tuple[Entry, Handled | Plain | None]  # an empty entry has no command


class Decoder:
    def __init__(self, handlers: Handlers, plain: PlainCommands, foresight: Foresight) -> None:
        self._handlers = handlers
        self._plain = plain
        self._foresight = foresight

    def decode(self, entries: Sequence[Entry], expected: int) -> list[Decoded]:
        """All commands of the entries from index `expected` on; those before were taken already.

        Raises UnknownFormat.
        """
        parse_plain, foreseen = self._plain.parse, self._foresight.parsed()
        decoded: list[Decoded] = []
        for entry in entries:
            index, data = entry.index, entry.data
            if index < expected:  # handed over again, after Stalled
                continue
            assert index == expected, (index, expected)
            assert entry.type == _NORMAL, entry.type
            expected += 1
            if data:
                plain = next(foreseen, None) or parse_plain(data)
                decoded.append((entry, plain or self.decode_command(entry)))
            else:
                decoded.append((entry, None))
        return decoded

    def decode_command(self, entry: Entry) -> Handled:
        """Its command, plain or not, and who handles it. Raises UnknownFormat."""
        try:
            message = command.decode(entry.data)
            return message, self._handlers.by_name[message.WhichOneof("body")]
        except UnknownFormat as exc:
            raise UnknownFormat(f"log index {entry.index}: {exc.detail}") from exc
        except KeyError as exc:
            raise UnknownFormat(
                f"log index {entry.index} is a command that this version does not know; "
                "update this member"
            ) from exc
