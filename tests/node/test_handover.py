"""Leadership moves on request and away from a stalled disk; new directories wait."""

from __future__ import annotations

from chainfire.errors import (
    BadLeaderTransferee,
    NotLeader,
    TimeoutLeaderTransfer,
)
from chainfire.node.admission import Admission
from chainfire.node.frames import Report
from chainfire.node.standing import Stage
from chainfire.raft.messages import Message, MessageType
from chainfire.raft.ready import Role, StepDown
from chainfire.types import AckResult, ConfState, PutResult
from tests.node.cluster import Cluster, Packet, is_a, losing, reliable
from tests.node.world import Caller


def test_a_move_is_answered_when_the_target_leads() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    caller = Caller()
    leader.driver.move_leader(3, caller)
    assert not caller.answered
    cluster.settle()
    assert isinstance(caller.result, AckResult)
    assert cluster.leader is cluster.members[3]


def test_an_entire_move_is_answered_when_the_target_has_committed_an_entry_of_its_own() -> None:
    """Until then who stops stays: its word may be the one that is needed."""
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(2)
    caller, early = Caller(), Caller()

    def without_entries(packet: Packet) -> list[Packet]:
        return [] if packet.sender == 2 and is_a(packet, MessageType.APPEND) else [packet]

    cluster.network = without_entries
    leader.driver.move_leader(2, early)
    leader.driver.move_leader(2, caller, entirely=True)
    cluster.run(3)  # heartbeats tell who leads
    assert cluster.leader is cluster.members[2] and early.answered
    assert leader.driver.raft.raft.leader == 2 and not caller.answered
    cluster.network = reliable
    cluster.run_until(lambda: caller.answered, ticks_max=3)
    assert isinstance(caller.result, AckResult)
    assert leader.driver.raft.raft.committed_in_term


def test_an_entire_move_is_not_waited_for_longer_than_an_election_timeout() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.network = lambda packet: (
        [] if packet.sender == 2 and is_a(packet, MessageType.APPEND) else [packet]
    )
    caller = Caller()
    leader.driver.move_leader(2, caller, entirely=True)
    ticks = leader.driver.raft.raft.config.election_ticks
    cluster.run(ticks)
    assert not caller.answered
    cluster.run(4)
    assert isinstance(caller.result, AckResult)


def test_a_move_is_over_where_the_target_and_all_others_are_gone() -> None:
    """Three members are stopped at the same moment: none may wait for a leader for ever."""
    for entirely in (False, True):
        cluster = Cluster()
        leader = cluster.elect()
        cluster.run(2)
        caller = Caller()
        leader.driver.move_leader(2, caller, entirely=entirely)

        def without_the_news(packet: Packet) -> list[Packet]:
            news = is_a(packet, MessageType.APPEND) or is_a(packet, MessageType.HEARTBEAT)
            return [] if packet.sender == 2 and news else [packet]

        cluster.network = without_the_news
        cluster.settle()
        assert leader.driver.raft.raft.role is Role.FOLLOWER
        cluster.crash(2)
        cluster.crash(3)
        assert not caller.answered
        cluster.run(leader.driver.raft.raft.config.election_ticks + 2)
        assert isinstance(caller.error, TimeoutLeaderTransfer)


def test_a_move_is_refused_by_others_than_the_leader_and_to_others_than_voters() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    here, there, nowhere = Caller(), Caller(), Caller()
    cluster.members[2].driver.move_leader(3, here)
    leader.driver.move_leader(9, there)
    leader.driver.move_leader(1, nowhere)
    assert isinstance(here.error, NotLeader)
    assert isinstance(there.error, BadLeaderTransferee)
    assert isinstance(nowhere.result, AckResult)


def test_a_move_to_a_member_that_is_down_is_given_up_and_writes_go_on() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.crash(3)
    caller = Caller()
    leader.driver.move_leader(3, caller)
    put = leader.put(b"k")
    cluster.run(12)
    assert isinstance(caller.error, TimeoutLeaderTransfer)
    assert isinstance(put.result, PutResult) and cluster.leader is leader


def test_a_leader_whose_disk_stalls_hands_over_within_an_election_timeout() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.stalled_disks = {1}
    put = cluster.members[1].put(b"k")
    cluster.run(7)
    assert cluster.leader is not cluster.members[1] and cluster.leader is not None
    assert cluster.members[1].driver.raft.raft.role is Role.FOLLOWER
    other = cluster.members[2].put(b"other")
    cluster.run(2)
    assert isinstance(other.result, PutResult)
    cluster.stalled_disks = set()
    cluster.run(2)
    assert isinstance(put.result, PutResult)


def test_a_leader_whose_disk_stalls_follows_where_nobody_can_take_over() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.stalled_disks = {1}
    cluster.network = losing(MessageType.APPEND)
    leader.put(b"k")
    cluster.settle()
    core = leader.driver.raft.raft
    cluster.run(core.config.election_ticks)
    assert core.role is Role.LEADER  # nobody is known to do better
    cluster.run(1)
    assert core.role is Role.FOLLOWER
    assert core.stepped_down == (core.term, StepDown.DISK_STALLS)


def test_a_leader_that_gets_no_cpu_does_not_take_its_disk_for_stalled() -> None:
    """It has just been elected, in the place of one that is paused, and its loop stands still for
    half an election timeout and more while a sync is under way, again and again.
    """
    cluster = Cluster()
    cluster.elect()
    cluster.cut = {1}
    cluster.run(25)
    leader = cluster.leader
    assert leader is not None and leader is not cluster.members[1]
    term = leader.driver.raft.raft.term
    for _ in range(20):
        put = leader.put(b"k")
        cluster.stalled_disks = {leader.me}
        cluster.settle()
        cluster.now_ms += 900
        cluster.run(1)
        cluster.stalled_disks = set()
        cluster.settle()
        assert isinstance(put.result, PutResult)
    core = leader.driver.raft.raft
    assert core.role is Role.LEADER and core.term == term


def test_a_sole_voter_with_a_stalled_disk_goes_on_leading() -> None:
    cluster = Cluster(size=1)
    leader = cluster.elect()
    cluster.stalled_disks = {1}
    put = leader.put(b"k")
    cluster.run(20)
    assert cluster.leader is leader and not put.answered
    cluster.stalled_disks = set()
    cluster.run(1)
    assert isinstance(put.result, PutResult)


def test_the_death_of_a_leader_is_followed_by_an_election_without_any_tick() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.crash(1)
    assert cluster.members[2].driver.gone(1) and cluster.members[3].driver.gone(1)
    assert not cluster.members[3].driver.gone(2)
    cluster.members[2].driver.campaign()
    cluster.settle()
    assert cluster.leader is cluster.members[2]


def test_who_still_hears_the_leader_does_not_vote_for_one_that_thinks_it_dead() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    term = leader.driver.raft.raft.term
    cluster.members[2].driver.gone(1)
    cluster.members[2].driver.campaign()
    cluster.run(3)
    assert cluster.leader is leader and leader.driver.raft.raft.term == term


# ── admission ───────────────────────────────────────────────────────────────


def test_a_new_directory_is_admitted_by_half_of_the_others() -> None:
    three, five = Admission(1, ConfState((1, 2, 3))), Admission(1, ConfState((1, 2, 3, 4, 5)))
    for peer in (2, 2, 9):
        three.welcomed(peer)
    assert not three.is_granted and three.missing == [3]
    three.welcomed(3)
    assert three.is_granted
    for peer in (2, 3, 4):
        assert not five.is_granted
        five.welcomed(peer)
    assert five.is_granted
    assert Admission(1, ConfState((1,))).is_granted
    joiner = Admission(9, ConfState((1,)))
    assert not joiner.is_granted
    joiner.welcomed(1)
    assert joiner.is_granted


def test_a_member_that_is_not_admitted_neither_votes_nor_acknowledges_nor_stands() -> None:
    cluster = Cluster()
    world = cluster.members[3]
    world.driver.standing.stage = Stage.WAITING
    said: list[Packet] = []

    def listen(packet: Packet) -> list[Packet]:
        # How it is, it may report; in elections and in the log it has no say.
        if packet.sender == 3 and not isinstance(packet.frame, Report):
            said.append(packet)
        return [packet]

    cluster.network = listen
    cluster.elect()
    cluster.crash(1)
    cluster.run(30)
    assert cluster.leader is None and said == []
    world.driver.standing.become_full()
    cluster.run_until(lambda: cluster.leader is not None)


def test_a_read_index_request_that_meets_no_leader_is_dropped() -> None:
    cluster = Cluster()
    cluster.elect()
    request = Message(MessageType.READ_INDEX, 2, 3, context=b"x" * 16)
    cluster.members[2].driver.received(3, [request])
    assert cluster.members[2].turn().frames == {}
