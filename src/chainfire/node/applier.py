"""Committed entries into the machine, in order; who of this member's callers hears of it.

A configuration change closes the batch before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainfire import command
from chainfire.errors import InvalidArgument
from chainfire.machine import Applied, Machine
from chainfire.node.changing import check
from chainfire.node.duties import Duties
from chainfire.node.effects import Answer, Effects
from chainfire.node.proposer import Proposer
from chainfire.raft.changes import ConfChange
from chainfire.raft.confchange import InvalidConfChange
from chainfire.raft.rawnode import RawNode
from chainfire.types import AlarmResult, ConfState, Entry, EntryType


class Applier:
    def __init__(
        self,
        raft: RawNode,
        machine: Machine,
        proposer: Proposer,
        duties: Duties,
        effects: Effects,
    ) -> None:
        self._raft = raft
        self._machine = machine
        self._proposer = proposer
        self._duties = duties
        self._effects = effects

    def apply(self, entries: Sequence[Entry]) -> bool:
        """Whether all of them are applied; if not, hand the same over again at the next turn.

        Raises Stalled: the same, a little later.
        """
        start = 0
        for at, entry in enumerate(entries):
            if entry.type is not EntryType.NORMAL:
                if not self._apply_normal(entries[start:at]):
                    return False
                self._apply_conf_change(entry)
                start = at + 1
        return self._apply_normal(entries[start:] if start else entries)

    def _apply_normal(self, entries: Sequence[Entry]) -> bool:
        if entries:
            self._answer(self._machine.apply(entries))
        return not self._machine.is_unfinished

    def _apply_conf_change(self, entry: Entry) -> None:
        change = ConfChange.decode(entry.data)
        context = command.decode_conf_change(change.context)

        def enter() -> ConfState:
            check(change, context, self._machine.members, self._machine.removed_members)
            try:
                return self._raft.apply_conf_change(change)
            except InvalidConfChange as exc:
                raise InvalidArgument(str(exc)) from exc

        self._answer(self._machine.apply_conf_change(entry, context, enter))

    def _answer(self, applied: Sequence[Applied]) -> None:
        me, start = self._proposer.member_id, self._proposer.start_number
        settle, answers = self._proposer.pending.settle, self._effects.answers
        for one in applied:
            if one.member_id == me and one.start_number == start:
                pending = settle(one.sequence)
                if pending is not None:
                    answers.append(Answer(pending, one.result))
            elif one.member_id == me and isinstance(one.result, AlarmResult):
                self._duties.note_earlier_alarm()
