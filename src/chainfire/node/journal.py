"""What a running member logs of itself: each change once, at the level it deserves."""

from __future__ import annotations

import logging

from chainfire.node.divergence import Verdict
from chainfire.node.driver import Driver
from chainfire.proto.maintenance_pb2 import AlarmType
from chainfire.raft.ready import StepDown
from chainfire.types import Alarm

VERDICTS = {
    Verdict.SOUND: "this member's state is that of the majority",
    Verdict.SUSPECT: "this member's state is not its leader's: it serves nothing",
    Verdict.ODD: "this member's state is not that of the majority: it serves nothing",
}
CONTRADICTED = "its leader has other entries than those that are committed here: it serves nothing"

log = logging.getLogger(__name__)


class Journal:
    def __init__(self, driver: Driver, slow_turn_seconds: float) -> None:
        """`slow_turn_seconds`: the limit that is named with a turn above it."""
        self._core = driver.raft.raft  # read, never written
        self._machine = driver.machine
        self._soundness = driver.soundness
        self._slow_turn_seconds = slow_turn_seconds
        self._alarms: tuple[Alarm, ...] = tuple(driver.machine.alarms)  # as last logged
        self._verdict = driver.soundness.verdict  # as last logged
        self._contradicted_at = 0  # as last logged
        self._stepped_down = self._core.stepped_down  # as last logged
        self.slow_turns = 0

    def slow_turn(self, seconds: float, answers: int) -> None:
        self.slow_turns += 1
        log.warning(
            "slow turn",
            extra={
                "took_ms": round(seconds * 1000),
                "limit_ms": round(self._slow_turn_seconds * 1000),
                "answers": answers,
                "applied_index": self._machine.applied_index,
            },
        )

    def leader_changed(self) -> None:
        """Or the term."""
        core = self._core
        if core.stepped_down is not None and core.stepped_down != self._stepped_down:
            self._stepped_down = core.stepped_down
            term, why = core.stepped_down
            log.log(
                logging.INFO if why is StepDown.HANDED_OVER else logging.WARNING,
                "stepped down",
                extra={"term": term, "detail": why.value},
            )
        log.info(
            "leader changed" if core.leader else "no leader",
            extra={"term": core.term, "leader": f"{core.leader:x}", "role": core.role.name},
        )

    def tick(self) -> None:
        """Look at what nobody announces."""
        self._look_at_alarms()
        self._look_at_verdict()
        self._look_at_log()

    def _look_at_alarms(self) -> None:
        alarms = tuple(self._machine.alarms)
        for word, changed in (
            ("alarm raised", set(alarms) - set(self._alarms)),
            ("alarm cleared", set(self._alarms) - set(alarms)),
        ):
            for alarm in sorted(changed, key=lambda alarm: (alarm.member_id, alarm.type)):
                name = AlarmType.Name(alarm.type)
                log.warning(word, extra={"alarm": name, "of_member": f"{alarm.member_id:x}"})
        self._alarms = alarms

    def _look_at_verdict(self) -> None:
        verdict = self._soundness.verdict
        if verdict is not self._verdict:
            self._verdict = verdict
            log.critical(VERDICTS[verdict], extra={"applied_index": self._machine.applied_index})

    def _look_at_log(self) -> None:
        contradicted_at = self._core.contradicted_at
        if contradicted_at != self._contradicted_at:
            self._contradicted_at = contradicted_at
            if contradicted_at:
                log.critical(CONTRADICTED, extra={"index": contradicted_at})
