"""What `Machine.apply` will return for entries that it was not given yet, where that is certain.

Certain are plain commands right behind what is applied, or foreseen, in the order of their
senders' sequences, while no alarm is on: puts, which cannot fail, and deletes and transactions of
keys that nothing foreseen has touched. To see what these will do costs as much as to do it, so
it is done for a few only. Nothing is changed by foreseeing; the apply finds out by itself, and is
held against what was foreseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from chainfire.machine.applied import Applied
from chainfire.machine.plain import PUT, Plain, PlainCommands
from chainfire.machine.sender import Sender
from chainfire.types import DeleteResult, Entry, EntryType, PutResult, TxnResult

EVALUATED_MAX: Final = 4  # entries, that deletes and transactions among them are foreseen
_NORMAL: Final = EntryType.NORMAL


class Foresight:
    """Begins anew whenever the machine has applied what was foreseen."""

    __slots__ = (
        "_index",
        "_newest",
        "_plain",
        "_plains",
        "_revision",
        "_senders",
        "_touched",
        "told",
    )

    def __init__(self, plain: PlainCommands, senders: Mapping[int, Sender]) -> None:
        self._plain = plain
        self._senders = senders
        self.told: list[Applied] = []  # since everything was applied
        self._plains: list[Plain] = []  # of the same entries
        self._index = self._revision = 0  # behind the last of them
        self._newest: dict[int, tuple[int, int]] = {}  # start number and sequence, by sender
        self._touched: set[bytes] = set()  # row keys

    def see(self, entries: Sequence[Entry], index: int, revision: int) -> list[Applied]:
        """The results of the first of these, as many as are certain.

        `index` and `revision`: what is applied. They follow on what was foreseen before, or
        nothing of them is certain.
        """
        told, plains, newest, touched = self.told, self._plains, self._newest, self._touched
        if told:
            index, revision = self._index, self._revision
        before = len(told)
        parse_plain = self._plain.parse
        for entry in entries:
            plain = parse_plain(entry.data) if entry.type == _NORMAL else None
            if plain is None or entry.index != index + 1:
                break
            member_id, start_number, sequence, lowest_unsettled, _, kind, row_keys = plain
            last = newest.get(member_id)
            if last is None:
                sender = self._senders.get(member_id)
                expected = sender is not None and sender.expects(start_number, sequence)
            else:
                expected = last == (start_number, sequence - 1)
            if not expected or lowest_unsettled > sequence:
                break
            result: PutResult | DeleteResult | TxnResult | None
            if kind == PUT:
                result = PutResult(revision + 1)
            elif len(entries) > EVALUATED_MAX or not touched.isdisjoint(row_keys):
                break
            else:
                result = self._plain.foresee(entry, kind, row_keys, revision)
                if result is None:
                    break
            newest[member_id] = start_number, sequence
            touched.update(row_keys)
            index, revision = index + 1, result.revision
            told.append(Applied(index, member_id, start_number, sequence, result))
            plains.append(plain)
        self._index, self._revision = index, revision
        return told[before:]

    def parsed(self) -> Iterator[Plain]:
        """The commands of the first entries that are to be applied, once."""
        plains, self._plains = self._plains, []
        return iter(plains)

    def came_true(self, became: Sequence[Applied]) -> None:
        """Everything was applied, with these results. Asserts that they are what was told."""
        for real, told in zip(became, self.told, strict=False):
            assert real.index == told.index, (real, told)
            assert real.result == told.result, (real, told)
        self.told.clear()
        self._plains.clear()
        self._newest.clear()
        self._touched.clear()
