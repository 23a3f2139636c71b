"""What a running member does about what it hears of its peers; implements `peers.PeerHandler`.

Death of a leader (design §7): `gone` means that its process has ended. All
followers hear of it at about the same time, so they stand one after the other,
in the order of their ids, or they would split the votes; who still hears the
leader refuses a pre-vote, so each asks again as long as there is none. A
connection that was merely lost changes nothing: the election timeout decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from chainfire.errors import Damaged, FatalError, Removed
from chainfire.node.admission import Admission
from chainfire.node.driver import Driver
from chainfire.node.frames import Frame
from chainfire.node.handshake import FATAL_REASONS, Denial, Hello, Reason
from chainfire.node.peers import PeerTransport
from chainfire.node.registry import Registry
from chainfire.node.status import TransportStatistics
from chainfire.raft.messages import Message

CAMPAIGN_SECONDS = 0.06  # what one usually takes, two round trips and two syncs, and some more
CAMPAIGNS_MAX = 10  # then the election timeout goes on alone

log = logging.getLogger(__name__)


class Peering:
    """`wake` schedules a turn of the driver, `die` stops the member."""

    def __init__(
        self,
        driver: Driver,
        registry: Registry,
        *,
        wake: Callable[[], None],
        die: Callable[[FatalError], None],
    ) -> None:
        self._driver = driver
        self._core = driver.raft.raft  # read, never written
        self._registry = registry
        self._wake = wake
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._dice = random.SystemRandom()
        self._campaign_timer: asyncio.TimerHandle | None = None
        self._transport: PeerTransport | None = None
        self._membership_changes = (0, 0)  # as last followed
        self._admission: Admission | None = None
        if not registry.was_admitted:
            self._admission = Admission(driver.member_id, driver.machine.conf_state)
            if not self._admission.is_granted:
                names = ", ".join(f"{id:x}" for id in self._admission.missing)
                log.info("a new directory: waiting for other members", extra={"peers": names})

    def connect(self, transport: PeerTransport) -> None:
        """Begin to talk."""
        self._transport = transport
        self.follow_membership()
        self._admit_if_granted()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics() if self._transport is None else self._transport.statistics()

    async def aclose(self) -> None:
        if self._campaign_timer is not None:
            self._campaign_timer.cancel()
        if self._transport is not None:
            await self._transport.aclose()

    # ── out ─────────────────────────────────────────────────────────────────

    def send(self, to: int, frames: Sequence[Frame]) -> None:
        if self._transport is not None:
            self._transport.send(to, frames)

    def send_snapshot(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.send_snapshot(message.to, message)
        else:
            self._loop.call_soon(self.snapshot_sent, message.to, False)

    def follow_membership(self) -> None:
        """After each turn: talk with those that are members now."""
        machine = self._driver.machine
        if self._transport is None or machine.membership_changes == self._membership_changes:
            return
        self._membership_changes = machine.membership_changes
        mine = self._driver.member_id
        self._transport.set_peers(
            {id: list(member.peerURLs) for id, member in machine.members.items() if id != mine}
        )

    # ── in ──────────────────────────────────────────────────────────────────

    def received(self, sender: int, frames: Sequence[Frame]) -> None:
        self._driver.received(sender, frames)
        self._wake()

    def connected(self, peer: int, hello: Hello, *, welcomed: bool) -> None:
        if hello.lost_data:
            self._driver.lost_data(peer)
        if welcomed and self._admission is not None:
            self._admission.welcomed(peer)
            self._admit_if_granted()
        self._wake()

    def denied(self, peer: int, denial: Denial) -> None:
        if denial.reason is Reason.REMOVED:
            self._die(removed(self._driver.member_id))
        elif denial.reason in FATAL_REASONS:
            self._die(Damaged(f"member {peer:x} says: {denial.text}"))

    def unreachable(self, peer: int) -> None:
        self._driver.unreachable(peer)
        self._wake()

    def gone(self, peer: int) -> None:
        if self._driver.gone(peer):
            log.info("the leader is gone", extra={"leader": f"{peer:x}"})
            self._stand_soon(CAMPAIGNS_MAX, peer)
        self._wake()

    def snapshot_received(self, message: Message, path: Path) -> None:
        self._driver.snapshot_received(message, path.name)
        self._wake()

    def snapshot_sent(self, peer: int, arrived: bool) -> None:
        self._driver.snapshot_sent(peer, arrived=arrived)
        self._wake()

    # ── inside ──────────────────────────────────────────────────────────────

    def _stand_soon(self, campaigns_left: int, dead: int) -> None:
        if self._campaign_timer is not None:
            self._campaign_timer.cancel()
        mine = self._driver.member_id
        turns = [id for id in self._core.tracker.all_voters if id != dead]
        if mine not in turns:
            return
        delay = turns.index(mine) * CAMPAIGN_SECONDS
        if campaigns_left < CAMPAIGNS_MAX:
            delay += len(turns) * CAMPAIGN_SECONDS * self._dice.uniform(0.5, 1.5)
        self._campaign_timer = self._loop.call_later(delay, self._stand, campaigns_left, dead)

    def _stand(self, campaigns_left: int, dead: int) -> None:
        self._campaign_timer = None
        if not self._core.leader:
            self._driver.campaign()
            self._wake()
            if campaigns_left > 1:
                self._stand_soon(campaigns_left - 1, dead)

    def _admit_if_granted(self) -> None:
        if self._admission is not None and self._admission.is_granted:
            self._admission = None
            self._registry.note_admitted()
            self._driver.admit()
            self._wake()


def removed(member_id: int) -> Removed:
    """What a member is told, and says, that a membership change has removed."""
    return Removed(
        f"member {member_id:x} has been permanently removed from the cluster. To bring this host "
        "back, add it anew (member add) and start it with an empty --data-dir and "
        "--initial-cluster-state=existing"
    )
