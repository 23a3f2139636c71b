"""What a caller is told whose time is over, and what becomes of what it asked for."""

from __future__ import annotations

import pytest

from chainfire.errors import (
    Timeout,
    TimeoutConnectionLost,
    TimeoutLeaderFailure,
    TooManyRequests,
)
from chainfire.node.driver import Limits
from chainfire.node.frames import Forward
from chainfire.raft.changes import ChangeKind
from chainfire.raft.messages import MessageType
from chainfire.raft.ready import StepDown
from chainfire.types import PutResult
from tests.node.cluster import Cluster, Packet, losing, reliable


def test_without_a_leader_a_write_times_out_as_unknown() -> None:
    cluster = Cluster()
    put = cluster.members[1].put(b"k")
    cluster.crash(2), cluster.crash(3)
    cluster.run(75)
    assert isinstance(put.error, Timeout)


def test_what_waited_for_a_leader_is_proposed_only_for_those_who_still_wait() -> None:
    cluster = Cluster()
    cluster.crash(1), cluster.crash(3)
    puts = [cluster.members[2].put(b"%d" % number) for number in range(20)]
    cluster.run(20)
    for put in puts[:15]:
        put.gone = True
    for id_ in (1, 3):
        cluster.members[id_] = cluster._make(id_)
    cluster.run_until(lambda: all(put.answered for put in puts[15:]))
    cluster.run_until(cluster.all_equal)
    assert [put.answered for put in puts] == [False] * 15 + [True] * 5
    assert cluster.members[2].machine.revision == 6


def test_who_is_gone_in_the_very_turn_that_brings_a_leader_is_not_proposed_for() -> None:
    """No tick comes between them: it is the new leader that is looked for."""
    cluster = Cluster()
    cluster.elect()
    for id_ in (2, 3):
        cluster.members[id_].driver.gone(1)
    cluster.crash(1)
    put = cluster.members[2].put(b"gone")
    cluster.settle()
    put.gone = True
    cluster.members[3].driver.campaign()
    cluster.settle()
    assert cluster.leader is cluster.members[3]
    after = cluster.members[2].put(b"k")
    cluster.settle()
    assert after.result == PutResult(revision=2)


def test_whoever_is_gone_leaves_a_place_to_others() -> None:
    cluster = Cluster(limits=Limits(pending_max=3))
    cluster.crash(1), cluster.crash(3)
    world = cluster.members[2]
    puts = [world.put(b"k") for _ in range(3)]
    assert isinstance(world.put(b"k").error, TooManyRequests)
    puts[1].gone = True
    cluster.run(1)
    assert world.put(b"k").error is None
    assert isinstance(world.put(b"k").error, TooManyRequests)


def test_a_forwarded_write_whose_caller_is_gone_is_not_sent_again() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.network = lambda packet: [] if isinstance(packet.frame, Forward) else [packet]
    puts = [cluster.members[2].put(b"%d" % number) for number in range(2)]
    cluster.settle()
    puts[0].gone = True
    cluster.network = reliable
    cluster.run_until(lambda: puts[1].answered)
    assert puts[1].result == PutResult(revision=2) and leader.machine.revision == 2


@pytest.mark.parametrize("committed", [True, False])
def test_a_write_that_is_in_a_log_is_made_once_or_never_when_its_caller_is_gone(
    committed: bool,
) -> None:
    """It has left its member, whose caller goes; the leader goes, too, and the next write tells
    all members that the first one is settled.
    """
    cluster = Cluster()
    cluster.elect()
    lost = MessageType.APPEND_REPLY if committed else MessageType.APPEND
    cluster.network = losing(lost)
    first = cluster.members[2].put(b"first")
    cluster.settle()
    first.gone = True
    before = cluster.crash(1)
    cluster.network = reliable
    cluster.run_until(lambda: cluster.leader is not None)
    second = cluster.members[2].put(b"second")
    cluster.run_until(lambda: second.answered)
    cluster.restart(1, before)
    cluster.run_until(cluster.all_equal)
    assert not first.answered
    for world in cluster.members.values():
        assert (world.machine.store.get_row(0, b"first") is not None) == committed
        assert world.machine.revision == (3 if committed else 2)


def test_a_membership_change_whose_caller_is_gone_is_not_made() -> None:
    cluster = Cluster()
    cluster.crash(1), cluster.crash(3)
    world = cluster.members[2]
    change = world.change(ChangeKind.REMOVE, 3)
    cluster.run(5)
    change.gone = True
    for id_ in (1, 3):
        cluster.members[id_] = cluster._make(id_)
    cluster.run_until(lambda: cluster.leader is not None)
    cluster.run(10)
    assert world.machine.conf_state.voters == (1, 2, 3)


def test_a_write_that_waited_through_a_change_of_leader_is_told_of_it() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(30)
    put = leader.put(b"k")
    cluster.network = losing(MessageType.APPEND)
    cluster.settle()
    leader.driver.raft.step_down(StepDown.DISK_STALLS)
    cluster.settle()
    leader.driver.raft.campaign()
    cluster.run(75)
    assert isinstance(put.error, TimeoutLeaderFailure)


def test_a_write_that_cannot_reach_its_leader_is_told_so() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.run(30)
    world = cluster.members[2]

    def one_way(packet: Packet) -> list[Packet]:
        if packet.sender == 2 and isinstance(packet.frame, Forward):
            world.driver.unreachable(packet.to)
            return []
        return [packet]

    cluster.network = one_way
    put = world.put(b"k")
    cluster.run(75)
    assert isinstance(put.error, TimeoutConnectionLost)
