"""Plain commands are answered as soon as they are committed, before they are applied.

Only those whose result is certain (`Machine.foresee`), so that a caller does
not wait for the apply, and the door writes answers while the machine applies.
Nothing is shown that is not durable, and no read shows less than what was
answered: reads wait until what is committed is applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.machine import Machine
from chainfire.node.effects import Answer
from chainfire.node.proposer import Proposer
from chainfire.types import Entry


class EarlyAnswers:
    def __init__(self, machine: Machine, proposer: Proposer) -> None:
        self._machine = machine
        self._proposer = proposer

    def answers(self, entries: Sequence[Entry]) -> tuple[list[Answer], bool]:
        """What callers should hear before these committed entries are applied, and whether that
        is all that there will be to say.
        """
        foreseen = self._machine.foresee(entries)
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
