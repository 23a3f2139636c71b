"""What a running member does about what it hears of its peers; implements `peers.PeerHandler`.

Death of a leader: `gone` means that its process has ended. All
followers hear of it at about the same time, so they stand one after the other,
in the order of their ids, or they would split the votes; who still hears the
leader refuses a pre-vote, so each asks again as long as there is none. A
connection that was merely lost changes nothing: the election timeout decides.

Lost data: a peer that says so is believed nothing any more that its earlier
lives said; this member, if it is one, first asks enough others (`admission`),
then follows until it has caught up (`standing`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from chainfire.errors import Corrupt, Damaged, FatalError, OlderCopy, Removed
from chainfire.node.admission import Admission
from chainfire.node.driver import Driver
from chainfire.node.effects import Effects
from chainfire.node.frames import Frame, Report
from chainfire.node.handshake import FATAL_REASONS, Denial, Hello, Reason
from chainfire.node.peers import PeerTransport
from chainfire.node.registry import Registry
from chainfire.node.status import TransportStatistics
from chainfire.node.worker import fatal
from chainfire.raft.messages import Message

CAMPAIGN_SECONDS = 0.06  # what one usually takes, two round trips and two syncs, and some more
CAMPAIGNS_MAX = 10  # then the election timeout goes on alone

log = logging.getLogger(__name__)


class Peering:
    """`wake` orders a turn of the driver, `say` does what needs none, `die` stops the member."""

    def __init__(
        self,
        driver: Driver,
        registry: Registry,
        *,
        wake: Callable[[], None],
        say: Callable[[], None],
        die: Callable[[FatalError], None],
    ) -> None:
        self._driver = driver
        self._core = driver.raft.raft  # read, never written
        self._registry = registry
        self._wake = wake
        self._say = say
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._dice = random.SystemRandom()
        self._campaign_timer: asyncio.TimerHandle | None = None
        self._transport: PeerTransport | None = None
        self._membership_changes = (0, 0)  # as last followed
        self._lives: dict[int, int] = {}  # of peers that have lost data; gone once they caught up
        self._is_catching_up = False
        self._admission: Admission | None = None
        if not registry.was_admitted:
            lost = registry.has_lost_data
            conf_state = driver.machine.conf_state
            self._admission = Admission(driver.member_id, conf_state, lost_data=lost)
            if not self._admission.is_granted:
                names = ", ".join(f"{id:x}" for id in self._admission.missing)
                log.info(
                    "waiting for other members",
                    extra={"peers": names, "why": "data was lost" if lost else "a new directory"},
                )

    def connect(self, transport: PeerTransport) -> None:
        """Begin to talk."""
        self._transport = transport
        self._follow_membership()
        self._admit_if_granted()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics() if self._transport is None else self._transport.statistics()

    async def aclose(self) -> None:
        if self._campaign_timer is not None:
            self._campaign_timer.cancel()
        if self._transport is not None:
            await self._transport.aclose()

    # ── out ─────────────────────────────────────────────────────────────────

    def tell(self, effects: Effects) -> None:
        """Its frames, and nothing else."""
        transport = self._transport
        if transport is not None:
            for to, frames in effects.frames.items():
                transport.send(to, frames)

    def send(self, effects: Effects) -> None:
        """What other members are told."""
        self.tell(effects)
        transport = self._transport
        for message in effects.snapshots:
            if transport is not None:
                transport.send_snapshot(message.to, message)
            else:
                self._loop.call_soon(self.snapshot_sent, message.to, False)

    @property
    def is_whole(self) -> bool:
        """No peer is known to have lost data and not to have caught up."""
        return not self._lives

    def after_turn(self) -> None:
        """Talk with those that are members now; vote again, if this member has caught up."""
        if self._is_catching_up and self._driver.soundness.has_caught_up:
            self._is_catching_up = False
            self._registry.note_admitted()
            self._driver.standing.become_full()
            log.info("caught up: this member votes again")
            if self._transport is not None:
                self._transport.made_good(self._driver.machine.applied_index)
        self._follow_membership()

    def _follow_membership(self) -> None:
        machine = self._driver.machine
        if self._transport is None or machine.membership_changes == self._membership_changes:
            return
        self._membership_changes = machine.membership_changes
        mine = self._driver.member_id
        self._lives = {id: life for id, life in self._lives.items() if id in machine.members}
        self._transport.set_peers(
            {id: list(member.peerURLs) for id, member in machine.members.items() if id != mine}
        )

    # ── in ──────────────────────────────────────────────────────────────────

    def received(self, sender: int, frames: Sequence[Frame]) -> None:
        if self._admission is not None:
            for frame in frames:
                if isinstance(frame, Report):
                    self._admission.reported(sender, frame.term)
                    self._admit_if_granted()
        try:
            if self._driver.received(sender, frames):
                self._wake()
            else:
                self._say()
        except Exception as exc:  # or only this connection would end
            self._die(fatal(exc))

    def connected(self, peer: int, hello: Hello, *, welcomed: bool) -> None:
        if not hello.lost_data:
            self._lives.pop(peer, None)
        elif self._lives.get(peer) != hello.life:
            self._lives[peer] = hello.life
            self._driver.lost_data(peer)
            log.warning("a peer has lost data", extra={"peer": f"{peer:x}"})
        if self._admission is not None:
            self._admission.met(peer, lost_data=hello.lost_data)
            if welcomed:
                self._admission.welcomed(peer)
            if self._admission.is_hopeless:
                self._die(_too_many_lost(self._driver.member_id, self._admission.without_data))
                return
            self._admit_if_granted()
        self._wake()

    def denied(self, peer: int, denial: Denial) -> None:
        if denial.reason is Reason.REMOVED:
            # By others, that is, who have applied it already; this member may have to yet, and to
            # answer whoever asked for it.
            self._driver.refuse_new()
            if self._driver.removal.told(int(self._loop.time() * 1000)):
                self._die(removed(self._driver.member_id))
        elif denial.reason is Reason.OLDER_COPY:
            self._die(OlderCopy(f"member {peer:x} says: {denial.text}", denial.start_number))
        elif denial.reason in FATAL_REASONS:
            self._die(Damaged(f"member {peer:x} says: {denial.text}"))

    @property
    def hears_leader(self) -> bool:
        return self._driver.hears_leader

    def applied(self, peer: int) -> int:
        return self._driver.reports.applied(peer)

    def unreachable(self, peer: int) -> None:
        self._driver.unreachable(peer)
        self._wake()

    def gone(self, peer: int) -> None:
        if self._driver.gone(peer):
            log.info("the leader is gone", extra={"leader": f"{peer:x}"})
            self._stand_soon(CAMPAIGNS_MAX, peer)
        self._wake()

    def snapshot_received(self, message: Message, path: Path) -> None:
        try:
            self._driver.snapshot_received(message, path.name)
        except Exception as exc:  # or only this transfer would end
            self._die(fatal(exc))
        self._wake()

    def damaged(self, error: Corrupt) -> None:
        self._die(error)

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
        admission = self._admission
        if admission is None or not admission.is_granted:
            return
        self._admission = None
        if admission.lost_data:
            log.info("catching up from the others", extra={"term": admission.term})
            self._driver.standing.become_following(admission.term)
            self._is_catching_up = True
        else:
            self._registry.note_admitted()
            self._driver.standing.become_full()
        self._wake()


def _too_many_lost(me: int, others: Sequence[int]) -> Damaged:
    names = ", ".join(f"{id:x}" for id in (me, *others))
    return Damaged(
        f"members {names} have lost data: no quorum is left that holds all that was acknowledged. "
        "Restore the cluster from a backup; or, to accept the loss, take the member that holds "
        "most, bring what lies in its newest damaged-* directory back to its place if it was put "
        "aside, start it alone with --force-new-cluster, and add the others anew"
    )


def removed(member_id: int) -> Removed:
    """What a member is told, and says, that a membership change has removed."""
    return Removed(
        f"member {member_id:x} has been permanently removed from the cluster. To bring this host "
        "back, add it anew (member add) and start it with an empty --data-dir and "
        "--initial-cluster-state=existing"
    )
