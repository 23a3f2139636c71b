"""Plain commands are answered as soon as they are committed, before they are applied.

Only those whose result is certain (`Machine.foresee`), so that a caller does
not wait for the apply, and the door writes answers while the machine applies.
Nothing is shown that is not durable, and no read shows less than what was
answered: reads wait until what is committed is applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.machine import Applied, Machine
from chainfire.node.effects import Answer
from chainfire.node.proposer import Proposer
from chainfire.types import Entry


class EarlyAnswers:
    def __init__(self, machine: Machine, proposer: Proposer) -> None:
        self._machine = machine
        self._proposer = proposer
        self._foreseen: Sequence[Applied] = ()  # of the entries up to this one:
        self._foreseen_last: Entry | None = None

    def foresee(self, entries: Sequence[Entry]) -> None:
        """They are not committed yet, but will be the next ones of `answers`, just these."""
        self._foreseen, self._foreseen_last = self._machine.foresee(entries), entries[-1]

    def answers(self, entries: Sequence[Entry]) -> tuple[list[Answer], bool]:
        """What callers should hear before these committed entries are applied, and whether that
        is all that there will be to say.
        """
        if self._foreseen_last is entries[-1]:
            foreseen = self._foreseen
        else:
            foreseen = self._machine.foresee(entries)
        self._foreseen, self._foreseen_last = (), None
        answers: list[Answer] = []
        pending = self._proposer.pending
        if len(pending):
            me, start = self._proposer.member_id, self._proposer.start_number
            for one in foreseen:
                if one.member_id == me and one.start_number == start:
                    caller = pending.settle(one.sequence)
                    if caller is not None:
                        answers.append(Answer(caller, one.result))
        return answers, len(foreseen) == len(entries)
