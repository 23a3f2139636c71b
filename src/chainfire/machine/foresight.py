"""What `Machine.apply` will return for entries that it was not given yet, where that is certain.

Certain are plain commands right behind what is applied, or foreseen, in the order of their
senders' sequences, while no alarm is on: puts, which cannot fail, and deletes and transactions of
keys that nothing foreseen has touched. To see what these will do costs as much as to do it, so
it is done for a few only; and so are grants of leases that do not exist. Nothing is changed by
foreseeing; the apply finds out by itself, and is held against what was foreseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from chainfire import command
from chainfire.command import BODY_TAGS, CommandKind
from chainfire.errors import UnknownFormat
from chainfire.lease import Lessor, may_be_granted
from chainfire.machine.applied import Applied
from chainfire.machine.plain import PUT, Plain, PlainCommands
from chainfire.machine.sender import Sender
from chainfire.types import AckResult, DeleteResult, Entry, EntryType, PutResult, TxnResult

EVALUATED_MAX: Final = 4  # entries, that deletes and transactions among them are foreseen
_NORMAL: Final = EntryType.NORMAL
_GRANT_TAG: Final = BODY_TAGS[CommandKind.LEASE_GRANT]
_Foreseen = PutResult | DeleteResult | TxnResult | AckResult


class _Grant(NamedTuple):
    """A command that grants a lease, as far as it matters here, in the order of a Plain."""

    member_id: int
    start_number: int
    sequence: int
    lowest_unsettled: int
    clock_ms: int
    kind: int
    leases: tuple[tuple[int, int], ...]  # keyspace and lease


class Foresight:
    """Begins anew whenever the machine has applied what was foreseen."""

    __slots__ = (
        "_index",
        "_leases",
        "_newest",
        "_plain",
        "_plains",
        "_revision",
        "_senders",
        "_touched",
        "told",
    )

    def __init__(self, plain: PlainCommands, senders: Mapping[int, Sender], leases: Lessor) -> None:
        self._plain = plain
        self._leases = leases
        self._senders = senders
        self.told: list[Applied] = []  # since everything was applied
        self._plains: list[Plain | None] = []  # of the same entries
        self._index = self._revision = 0  # behind the last of them
        self._newest: dict[int, tuple[int, int]] = {}  # start number and sequence, by sender
        self._touched: set[bytes | tuple[int, int]] = set()  # row keys, and names of leases

    def see(self, entries: Sequence[Entry], index: int, revision: int) -> list[Applied]:
        """The results of the first of these, as many as are certain.

        `index` and `revision`: what is applied. They follow on what was foreseen before, or
        nothing of them is certain.
        """
        told = self.told
        if told:
            index, revision = self._index, self._revision
        before, is_few = len(told), len(entries) <= EVALUATED_MAX
        for entry in entries:
            if entry.type != _NORMAL or entry.index != index + 1:
                break
            plain = self._plain.parse(entry.data)
            seen = plain or (self._grant(entry.data) if is_few else None)
            if seen is None or not self._is_next(*seen[:4]):
                break
            result: _Foreseen | None
            if seen[5] == PUT:
                result = PutResult(revision + 1)
                self._touched.update(seen[6])
            else:
                result = self._result(entry, seen, revision) if is_few else None
                if result is None:
                    break
            member_id, start_number, sequence = seen[:3]
            self._newest[member_id] = start_number, sequence
            index, revision = index + 1, result.revision
            told.append(Applied(index, member_id, start_number, sequence, result))
            self._plains.append(plain)
        self._index, self._revision = index, revision
        return told[before:]

    def _is_next(
        self, member_id: int, start_number: int, sequence: int, lowest_unsettled: int
    ) -> bool:
        """Whether it is surely not void."""
        last = self._newest.get(member_id)
        if last is None:
            sender = self._senders.get(member_id)
            expected = sender is not None and sender.expects(start_number, sequence)
        else:
            expected = last == (start_number, sequence - 1)
        return expected and lowest_unsettled <= sequence

    def _result(self, entry: Entry, seen: Plain | _Grant, revision: int) -> _Foreseen | None:
        """Of anything but a put."""
        names: Sequence[bytes | tuple[int, int]] = seen[6]
        if not self._touched.isdisjoint(names):
            return None
        result: _Foreseen | None
        if isinstance(seen, _Grant):
            exists = self._leases.exists(*seen.leases[0])
            result = None if exists else AckResult(revision)
        else:
            result = self._plain.foresee(entry, seen[5], seen[6], revision)
        if result is not None:
            self._touched.update(names)
        return result

    def _grant(self, data: bytes) -> _Grant | None:
        """What it grants, if it does, and nobody can refuse it for what it says."""
        if _GRANT_TAG not in data:
            return None
        try:
            message = command.decode(data)
        except UnknownFormat:
            return None
        grant = message.lease_grant
        if not message.HasField("lease_grant") or not may_be_granted(grant.id, grant.ttl_ms):
            return None
        return _Grant(
            message.member_id,
            message.start_number,
            message.sequence,
            message.lowest_unsettled,
            message.leader_clock_ms,
            CommandKind.LEASE_GRANT,
            ((message.keyspace, grant.id),),
        )

    def parsed(self) -> Iterator[Plain | None]:
        """The commands of the first entries that are to be applied, once; None: not a plain one."""
        plains, self._plains = self._plains, []
        return iter(plains)

    def of_run(self, first_index: int, count: int) -> list[Applied]:
        """What was told of these entries; empty if not of all."""
        told = self.told
        at = first_index - told[0].index if told else -1
        return told[at : at + count] if 0 <= at <= len(told) - count else []

    def came_true(self, became: Sequence[Applied]) -> None:
        """Everything was applied, with these results. Asserts that they are what was told."""
        for real, told in zip(became, self.told, strict=False):
            if real is not told:
                assert real.index == told.index, (real, told)
                assert real.result == told.result, (real, told)
        self.told.clear()
        self._plains.clear()
        self._newest.clear()
        self._touched.clear()
