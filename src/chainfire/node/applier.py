"""Committed entries into the machine, in order; who of this member's callers hears of it.

A configuration change closes the batch before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from chainfire.machine import Machine
from chainfire.node.effects import Answer, Effects
from chainfire.node.proposer import Proposer
from chainfire.raft.changes import ConfChange
from chainfire.raft.confchange import InvalidConfChange
from chainfire.raft.rawnode import RawNode
from chainfire.types import Entry, EntryType


class Applier:
    def __init__(
        self, raft: RawNode, machine: Machine, proposer: Proposer, effects: Effects
    ) -> None:
        self._raft = raft
        self._machine = machine
        self._proposer = proposer
        self._effects = effects

    def apply(self, entries: Sequence[Entry]) -> None:
        """Raises Stalled: hand the same entries over again, later."""
        start = 0
        for at, entry in enumerate(entries):
            if entry.type is not EntryType.NORMAL:
                self._apply_normal(entries[start:at])
                self._apply_conf_change(entry)
                start = at + 1
        self._apply_normal(entries[start:] if start else entries)

    def _apply_normal(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        me, start = self._proposer.member_id, self._proposer.start_number
        settle, answers = self._proposer.pending.settle, self._effects.answers
        for applied in self._machine.apply(entries):
            if applied.member_id == me and applied.start_number == start:
                pending = settle(applied.sequence)
                if pending is not None:
                    answers.append(Answer(pending, applied.result))

    def _apply_conf_change(self, entry: Entry) -> None:
        change = ConfChange.decode(entry.data)
        conf_state, context = self._machine.conf_state, b""
        with suppress(InvalidConfChange):  # every member skips it alike
            conf_state, context = self._raft.apply_conf_change(change), change.context
        self._machine.apply_conf_change(entry, conf_state, context)
