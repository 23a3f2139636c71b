"""A member that has lost what it had acknowledged follows, without a vote, until it holds it."""

from __future__ import annotations

import pytest

from chainfire.node.admission import Admission, leaves_quorum
from chainfire.node.standing import Stage
from chainfire.proto.kv_pb2 import LOCAL, SERIALIZABLE
from chainfire.raft.messages import Message, MessageType
from chainfire.types import ConfState
from tests.node.cluster import Cluster, Packet, losing, reliable
from tests.node.world import Caller


def elected(size: int = 3) -> Cluster:
    cluster = Cluster(size)
    cluster.elect()
    for number in range(5):
        cluster.members[1].put(b"k%d" % number)
    cluster.run(2)
    return cluster


def test_after_a_loss_it_catches_up_and_counts_again() -> None:
    cluster = elected()
    cluster.crash(3)
    world = cluster.lose_disk(3)
    assert world.driver.standing.stage is Stage.FOLLOWING
    cluster.run_until(lambda: world.driver.standing.stage is Stage.FULL)
    assert cluster.all_equal()
    cluster.crash(1)
    put = cluster.members[2].put(b"later")
    cluster.run_until(lambda: put.answered)
    assert put.result is not None


@pytest.mark.parametrize("type", [MessageType.VOTE, MessageType.PRE_VOTE])
def test_what_was_committed_with_its_help_is_not_voted_away(type: MessageType) -> None:
    """A leads and commits with C, B lacks it. A dies, C loses it. B must not be elected by C."""
    cluster = elected()
    cluster.cut = {2}
    put = cluster.members[1].put(b"committed by 1 and 3")
    cluster.settle()
    assert put.result is not None
    first = cluster.crash(1)
    cluster.crash(3)
    cluster.cut = set()
    world = cluster.lose_disk(3)
    assert world.driver.standing.stage is Stage.LOST, "one of two is not enough"
    cluster.run(50)
    assert cluster.leader is None
    # Even if it was told by enough others before: it gives no vote.
    world.driver.standing.become_following(1)
    ask = Message(type, 3, 2, 9, 1, 100)
    world.driver.received(2, [ask])
    assert world.turn().frames == {}
    cluster.run(50)
    assert cluster.leader is None
    cluster.restart(1, first)
    cluster.run_until(lambda: world.driver.standing.stage is Stage.FULL)
    assert all(
        w.machine.store.get_row(0, b"committed by 1 and 3") for w in cluster.members.values()
    )


def test_a_leader_of_an_older_term_than_its_lost_vote_is_not_followed() -> None:
    """A leads, cut off with C; B is elected by C, which then loses that."""
    cluster = elected()
    cluster.cut = {1}
    cluster.run_until(lambda: not cluster.members[3].driver.raft.raft.hears_leader)
    cluster.elect(2)
    put = cluster.members[2].put(b"new")
    cluster.settle()
    assert put.result is not None
    old_term = cluster.members[1].driver.raft.raft.term
    cluster.cut = set()
    cluster.network = lambda p: [] if {p.sender, p.to} == {1, 2} else [p]
    cluster.crash(3)
    world = cluster.lose_disk(3)
    assert world.driver.standing.stage is Stage.FOLLOWING
    assert world.driver.raft.raft.term > old_term
    lost = cluster.members[1].put(b"old")
    cluster.run(10)
    assert lost.result is None
    assert world.machine.store.get_row(0, b"new") is not None


def test_an_acknowledgement_of_its_past_does_not_count_any_more() -> None:
    cluster = elected()
    leader = cluster.members[1]
    cluster.cut = {2}
    cluster.crash(3)
    leader.driver.lost_data(3)
    put = leader.put(b"k")
    cluster.settle()
    assert leader.driver.raft.raft.tracker.progress[3].match == 0
    assert not put.answered


def test_a_vote_of_its_past_does_not_count_any_more() -> None:
    cluster = Cluster()
    world = cluster.members[1]
    world.driver.campaign()
    cluster.network = lambda packet: [] if packet.to == 1 else [packet]
    cluster.settle()
    raft = world.driver.raft
    raft.raft.tracker.votes[3] = True
    raft.reset_progress(3)
    assert 3 not in raft.raft.tracker.votes


def test_its_term_and_used_up_vote_are_stored_before_it_says_anything() -> None:
    cluster = elected()
    cluster.crash(3)
    world = cluster.lose_disk(3)
    effects = world.turn()
    assert effects.sync is not None
    term = cluster.members[1].driver.raft.raft.term
    assert (world.log_store.hard_state.term, world.log_store.hard_state.vote) == (term, 3)
    assert MessageType.VOTE_REPLY not in [
        frame.type
        for frames in effects.frames.values()
        for frame in frames
        if isinstance(frame, Message)
    ]


def test_it_is_no_leader_before_it_has_caught_up() -> None:
    cluster = elected()
    cluster.crash(3)
    world = cluster.lose_disk(3)
    cluster.network = lambda p: [] if is_append(p) and p.to == 3 else [p]
    cluster.members[1].driver.move_leader(3, Caller())
    cluster.run(30)
    assert world.driver.standing.stage is Stage.FOLLOWING
    assert cluster.leader is not None and cluster.leader.me != 3


def is_append(packet: Packet) -> bool:
    frame = packet.frame
    return isinstance(frame, Message) and frame.type in (MessageType.APPEND, MessageType.SNAPSHOT)


@pytest.mark.parametrize("level", [LOCAL, SERIALIZABLE])
def test_while_it_catches_up_it_shows_no_less_than_it_had_shown(level: int) -> None:
    cluster = elected()
    cluster.crash(3)
    world = cluster.lose_disk(3)
    cluster.network = losing(MessageType.READ_INDEX_REPLY)
    cluster.run(5)
    assert world.machine.store.get_row(0, b"k0") is not None
    read = world.read(level)
    cluster.run(5)
    assert not read.answered
    cluster.network = reliable
    cluster.run_until(lambda: read.answered)
    assert read.may_read


# ── whom it must ask ────────────────────────────────────────────────────────


def asked(size: int) -> Admission:
    return Admission(1, ConfState(tuple(range(1, size + 1))), lost_data=True)


def test_half_of_the_others_must_welcome_it_and_tell_their_term() -> None:
    admission = asked(5)
    for peer, term in ((2, 7), (3, 9), (9, 50)):
        admission.welcomed(peer)
        admission.reported(peer, term)
    admission.welcomed(4)
    admission.reported(5, 60)
    assert not admission.is_granted and admission.missing == [4, 5]
    admission.reported(4, 8)
    assert admission.is_granted and admission.term == 9, "5 has not welcomed it, 9 is no voter"


def test_what_others_answer_that_have_lost_data_themselves_does_not_count() -> None:
    admission = asked(5)
    for peer in (2, 3, 4):
        admission.met(peer, lost_data=peer == 4)
        admission.welcomed(peer)
        admission.reported(peer, 1)
    assert not admission.is_granted and admission.without_data == [4]
    admission.met(4, lost_data=False)
    assert admission.is_granted


def test_without_a_quorum_that_holds_everything_there_is_no_hope() -> None:
    admission = asked(5)
    admission.met(2, lost_data=True)
    assert not admission.is_hopeless
    admission.met(3, lost_data=True)
    assert admission.is_hopeless
    new = Admission(1, ConfState((1, 2, 3)))
    for peer in (2, 3):
        new.met(peer, lost_data=True)
    assert not new.is_hopeless, "a new directory has lost nothing"


@pytest.mark.parametrize(
    ("voters", "lost", "left"),
    [(1, 1, False), (2, 1, False), (3, 1, True), (3, 2, False), (4, 1, True), (4, 2, False)],
)
def test_a_quorum_of_the_others(voters: int, lost: int, left: bool) -> None:
    assert leaves_quorum(voters, lost) is left
