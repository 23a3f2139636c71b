"""Several members: every write is answered once and applied once, whatever the leader does."""

from __future__ import annotations

import pytest

from chainfire import command
from chainfire.errors import (
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
    Timeout,
    TimeoutConnectionLost,
    TimeoutLeaderFailure,
    TooManyRequests,
)
from chainfire.node.driver import Limits
from chainfire.node.frames import Change, Forward, Refused
from chainfire.node.proposer import FORWARDED_MAX
from chainfire.node.readgate import PATIENCE
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL, SERIALIZABLE
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.messages import Message, MessageType
from chainfire.raft.ready import Role, StepDown
from chainfire.types import AckResult, PutResult
from tests.node.cluster import Cluster, Packet
from tests.node.world import PLENTY, Caller, World


def test_writes_are_taken_by_every_member_and_answered_by_the_one_that_took_them() -> None:
    cluster = Cluster()
    cluster.elect()
    puts = [world.put(b"k%d" % id_) for id_, world in cluster.members.items()]
    cluster.settle()
    assert sorted(put.result.revision for put in puts if isinstance(put.result, PutResult)) == [
        2,
        3,
        4,
    ]
    cluster.run(2)
    assert cluster.all_equal()


def test_reads_of_every_level_are_served_by_every_member() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    leader.put(b"k")
    cluster.settle()
    for world in cluster.members.values():
        reads = [world.read(level) for level in (LINEARIZABLE, SERIALIZABLE, LOCAL)]
        cluster.settle()
        assert all(read.may_read for read in reads)
        assert world.machine.store.get_row(0, b"k") is not None


def test_all_linearizable_reads_of_a_turn_ask_the_leader_once() -> None:
    cluster = Cluster()
    cluster.elect()
    asked: list[Packet] = []

    def spy(packet: Packet) -> list[Packet]:
        if isinstance(packet.frame, Message) and packet.frame.type is MessageType.READ_INDEX:
            asked.append(packet)
        return [packet]

    cluster.network = spy
    reads = [cluster.members[2].read(LINEARIZABLE) for _ in range(50)]
    cluster.settle()
    assert all(read.may_read for read in reads) and len(asked) == 1


def test_a_read_at_a_follower_of_three_takes_one_question_and_one_answer() -> None:
    cluster = Cluster()
    cluster.elect()
    said: list[tuple[int, int, MessageType]] = []

    def spy(packet: Packet) -> list[Packet]:
        if isinstance(packet.frame, Message):
            said.append((packet.sender, packet.to, packet.frame.type))
        return [packet]

    cluster.settle()
    cluster.network = spy
    read = cluster.members[2].read(LINEARIZABLE)
    cluster.settle()
    assert read.may_read
    assert said == [(2, 1, MessageType.READ_INDEX), (1, 2, MessageType.READ_INDEX_REPLY)]


def test_a_leader_asks_one_follower_and_the_other_if_it_keeps_silent() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    first = leader.read(LINEARIZABLE)
    cluster.settle()
    second = leader.read(LINEARIZABLE)
    effects = leader.turn()
    assert first.may_read and effects.remind_after
    assert len(effects.frames) == 1  # and what is said there is lost
    times = 1
    while leader.driver.remind():
        times += 1
    said = leader.driver.say()
    assert times == PATIENCE and set(said.frames) == {2, 3}
    cluster._post(leader.me, said)
    cluster.settle()
    assert second.may_read


def test_a_leader_that_was_replaced_answers_no_follower_that_has_not_heard() -> None:
    """A second one, cut off together with it, is no majority of five."""
    cluster = Cluster(5)
    old = cluster.elect()
    cluster.settle()
    islands = ({1, 2}, {3, 4, 5})
    cluster.network = lambda packet: (
        [packet] if any({packet.sender, packet.to} <= island for island in islands) else []
    )
    cluster.members[3].driver.raft.campaign()
    cluster.members[4].driver.raft.forget_leader()
    cluster.members[5].driver.raft.forget_leader()
    cluster.run_until(lambda: cluster.leader is not old)
    assert cluster.leader is not None
    put = cluster.leader.put(b"k")
    read = cluster.members[2].read(LINEARIZABLE)
    cluster.run(2)
    assert put.result is not None and not read.may_read
    cluster.network = lambda packet: [packet]
    cluster.run_until(lambda: read.answered)
    assert read.may_read and cluster.members[2].machine.store.get_row(0, b"k") is not None


def test_local_and_serializable_reads_need_no_peer_and_linearizable_ones_do() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.cut = {2}
    world = cluster.members[2]
    assert world.read(LOCAL).may_read and world.read(SERIALIZABLE).may_read
    waiting = world.read(LINEARIZABLE)
    cluster.run(80)
    assert not waiting.may_read and waiting.error is not None


def test_a_new_member_shows_nothing_before_it_knows_how_far_the_others_are() -> None:
    cluster = Cluster()
    cluster.cut = {3}
    leader = cluster.elect()
    leader.put(b"k")
    cluster.settle()
    new = cluster.members[3]
    reads = [new.read(level) for level in (SERIALIZABLE, LOCAL)]
    cluster.run(2)
    assert not any(read.answered for read in reads)
    cluster.cut = set()
    cluster.run_until(lambda: all(read.answered for read in reads))
    assert all(read.may_read for read in reads)
    assert new.machine.revision == leader.machine.revision


def test_a_min_revision_is_waited_for_on_a_follower() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    read = cluster.members[3].read(LOCAL, min_revision=2)
    cluster.settle()
    assert not read.answered
    leader.put(b"k")
    cluster.settle()
    assert read.may_read


def test_a_new_leader_is_asked_again_for_reads_that_the_old_one_did_not_answer() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.network = lambda packet: [] if is_a(packet, MessageType.READ_INDEX_REPLY) else [packet]
    read = cluster.members[3].read(LINEARIZABLE)
    cluster.settle()
    assert not read.answered
    cluster.crash(1)
    cluster.network = lambda packet: [packet]
    cluster.run_until(lambda: read.answered)
    assert read.may_read


def test_an_answer_to_a_read_of_an_earlier_start_confirms_nothing() -> None:
    cluster = Cluster()
    cluster.elect()
    held: list[Packet] = []

    def hold(packet: Packet) -> list[Packet]:
        if is_a(packet, MessageType.READ_INDEX_REPLY):
            held.append(packet)
            return []
        return [packet]

    cluster.network = hold
    cluster.members[3].read(LINEARIZABLE)
    cluster.settle()
    before = cluster.crash(3)
    world = cluster.restart(3, before)
    cluster.run(2)
    cluster.network = lambda packet: [] if is_a(packet, MessageType.READ_INDEX) else [packet]
    read = world.read(LINEARIZABLE)
    cluster.settle()
    for packet in held:
        cluster.deliver(packet)
    cluster.settle()
    assert held and not read.may_read


# ── changes of leader ───────────────────────────────────────────────────────


def test_a_write_lost_with_its_leader_is_proposed_again_and_answered_at_once() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.network = lambda packet: [] if is_a(packet, MessageType.APPEND) else [packet]
    put = cluster.members[2].put(b"k")
    cluster.settle()
    cluster.crash(1)
    cluster.network = lambda packet: [packet]
    cluster.run_until(lambda: cluster.leader is not None)
    assert put.result == PutResult(revision=2)


def test_a_write_committed_by_a_leader_that_dies_is_applied_once_and_answered() -> None:
    cluster = Cluster()
    cluster.elect()
    # Everybody holds the entry, nobody hears that it is committed.
    cluster.network = lambda packet: [] if is_a(packet, MessageType.APPEND_REPLY) else [packet]
    put = cluster.members[2].put(b"k")
    cluster.settle()
    cluster.crash(1)
    cluster.network = lambda packet: [packet]
    cluster.run_until(lambda: put.answered)
    assert put.result == PutResult(revision=2)
    cluster.run(5)
    assert [world.machine.revision for world in cluster.members.values()] == [2, 2]


def test_the_leaders_own_unsettled_writes_go_to_its_successor() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.cut = {1}
    put = leader.put(b"k")
    cluster.run_until(lambda: cluster.leader is not None and cluster.leader.me != 1)
    assert not put.answered
    cluster.cut = set()
    cluster.run_until(lambda: put.answered)
    assert put.result == PutResult(revision=2)


def test_what_waited_for_a_leader_is_proposed_once() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.crash(1)
    for world in cluster.members.values():
        world.driver.gone(1)
    puts = [world.put(b"k") for world in cluster.members.values() for _ in range(5)]
    cluster.run_until(lambda: all(put.answered for put in puts))
    log = cluster.members[2].log_store
    datas = [entry.data for entry in log.entries(1, log.last_index() + 1, 1 << 20)]
    assert sum(command.decode(data).HasField("put") for data in datas if data) == len(puts)


def test_a_forward_that_is_duplicated_and_reordered_is_applied_once() -> None:
    cluster = Cluster()
    cluster.elect()
    late: list[Packet] = []

    def twice(packet: Packet) -> list[Packet]:
        if isinstance(packet.frame, Forward):
            late.append(packet)
            return [packet, packet]
        return [packet]

    cluster.network = twice
    first, second = cluster.members[2].put(b"k", b"1"), cluster.members[2].put(b"k", b"2")
    cluster.settle()
    for packet in reversed(late):
        cluster.deliver(packet)
    cluster.settle()
    assert (first.result, second.result) == (PutResult(revision=2), PutResult(revision=3))
    assert all(world.machine.revision == 3 for world in cluster.members.values())


def test_a_forward_that_is_lost_without_a_word_is_sent_again() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.network = lambda packet: [] if isinstance(packet.frame, Forward) else [packet]
    put = cluster.members[2].put(b"k")
    cluster.settle()
    cluster.network = lambda packet: [packet]
    cluster.run_until(lambda: put.answered, ticks_max=15)
    assert put.result == PutResult(revision=2)


def test_a_forward_that_could_not_be_sent_is_repeated_at_the_next_tick() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.cut = {2}
    put = cluster.members[2].put(b"k")
    cluster.settle()
    cluster.cut = set()
    cluster.run(1)
    assert put.result == PutResult(revision=2)


def test_what_the_leader_refuses_is_sent_again_and_not_answered_with_a_failure() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    forwarded: list[Forward] = []

    def full(packet: Packet) -> list[Packet]:
        if isinstance(packet.frame, Forward):
            forwarded.append(packet.frame)
            flood = Forward(list(packet.frame.commands) * (FORWARDED_MAX + 1))
            return [Packet(packet.sender, packet.to, flood)] if len(forwarded) == 1 else [packet]
        return [packet]

    cluster.network = full
    put = cluster.members[2].put(b"k")
    cluster.settle()
    assert not put.answered and leader.machine.revision == 1
    cluster.run(2)
    assert put.result == PutResult(revision=2) and len(forwarded) == 2


def test_a_refusal_of_an_earlier_start_means_nothing() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.members[2].driver.received(1, [Refused(start_number=0, sequences=[1], code=8)])
    put = cluster.members[2].put(b"k")
    cluster.settle()
    assert put.result == PutResult(revision=2)


def test_during_a_transfer_writes_wait_and_then_go_to_the_new_leader() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    puts = [world.put(b"k") for world in cluster.members.values()]
    assert leader.driver.raft.transfer_leader(2)
    puts += [world.put(b"k") for world in cluster.members.values()]
    cluster.settle()
    assert cluster.leader is cluster.members[2]
    assert all(isinstance(put.result, PutResult) for put in puts)
    assert cluster.members[2].machine.revision == 1 + len(puts)


def test_what_waited_at_a_new_leader_travels_with_its_first_entry() -> None:
    """No follower syncs once more for it."""
    cluster = Cluster()
    leader = cluster.elect()
    appends: list[Message] = []

    def spy(packet: Packet) -> list[Packet]:
        if packet.sender == 2 and is_a(packet, MessageType.APPEND):
            assert isinstance(packet.frame, Message)
            appends.append(packet.frame)
        return [packet]

    cluster.network = spy
    assert leader.driver.raft.transfer_leader(2)
    cluster.members[2].driver.gone(1)  # so that the put waits
    put = cluster.members[2].put(b"k")
    cluster.settle()
    assert cluster.leader is cluster.members[2] and put.result == PutResult(revision=2)
    first = {append.to: append for append in reversed(appends)}
    assert {id_: len(append.entries) for id_, append in first.items()} == {1: 2, 3: 2}


# ── membership ──────────────────────────────────────────────────────────────


def change_of(kind: ChangeKind, id_: int, *members: Member) -> tuple[ConfChange, list[Member]]:
    return ConfChange((ChangeStep(kind, id_),)), list(members)


def propose(world: World, kind: ChangeKind, id_: int, *members: Member) -> Caller:
    caller = Caller()
    world.driver.propose_conf_change(*change_of(kind, id_, *members), caller)
    return caller


def test_a_membership_change_is_taken_by_any_member_and_made_once() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    new = Member(ID=9, peerURLs=["http://9"])

    def twice(packet: Packet) -> list[Packet]:
        return [packet, packet] if isinstance(packet.frame, Change) else [packet]

    cluster.network = twice
    added = propose(cluster.members[2], ChangeKind.ADD_LEARNER, 9, new)
    cluster.settle()
    assert isinstance(added.result, AckResult)
    cluster.run(3)
    assert leader.machine.conf_state.learners == (9,)
    assert all(world.machine.members[9].isLearner for world in cluster.members.values())
    removed = propose(cluster.members[3], ChangeKind.REMOVE, 9)
    cluster.run(3)
    assert isinstance(removed.result, AckResult)
    assert leader.machine.conf_state.learners == () and cluster.all_equal()
    assert leader.machine.removed_members == {9}


@pytest.mark.parametrize(
    ("kind", "id_", "members", "error"),
    [
        (ChangeKind.REMOVE, 9, [], MemberNotFound),
        (ChangeKind.UPDATE, 9, [], MemberNotFound),
        (ChangeKind.ADD_VOTER, 9, [], MemberNotFound),
        (ChangeKind.ADD_VOTER, 2, [], MemberNotLearner),
        (ChangeKind.ADD_VOTER, 2, [Member(ID=2, peerURLs=["http://2"])], MemberExists),
        (ChangeKind.ADD_VOTER, 9, [Member(ID=9, peerURLs=["http://127.0.0.1:2"])], PeerUrlExists),
    ],
)
def test_a_change_that_does_not_fit_is_refused_when_applied(
    kind: ChangeKind, id_: int, members: list[Member], error: type[Exception]
) -> None:
    cluster = Cluster()
    cluster.elect()
    caller = propose(cluster.members[2], kind, id_, *members)
    cluster.settle()
    assert isinstance(caller.error, error)
    cluster.run(2)
    assert cluster.all_equal() and cluster.members[1].machine.conf_state.voters == (1, 2, 3)


def test_membership_changes_wait_for_each_other() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    callers = [
        propose(
            cluster.members[1 + id_ % 3],
            ChangeKind.ADD_LEARNER,
            id_,
            Member(ID=id_, peerURLs=[f"http://{id_}"]),
        )
        for id_ in (7, 8, 9)
    ]
    cluster.run(3)
    assert all(isinstance(caller.result, AckResult) for caller in callers)
    assert leader.machine.conf_state.learners == (7, 8, 9)


def test_learners_are_counted_when_the_change_is_applied() -> None:
    """Two members are asked at the same time, and neither sees the other's learner yet."""
    cluster = Cluster(limits=Limits(learners_max=1))
    cluster.elect()
    callers = [
        propose(
            cluster.members[me],
            ChangeKind.ADD_LEARNER,
            id_,
            Member(ID=id_, peerURLs=[f"http://{id_}"]),
        )
        for me, id_ in ((2, 8), (3, 9))
    ]
    cluster.run(3)
    assert sorted(type(caller.error or caller.result).__name__ for caller in callers) == [
        "AckResult",
        "TooManyLearners",
    ]
    assert cluster.all_equal() and len(cluster.members[1].machine.conf_state.learners) == 1


@pytest.mark.parametrize("asked", [1, 2])
def test_a_leader_that_is_removed_lets_another_one_lead_first(asked: int) -> None:
    """Of two members: when the leader has gone, the other goes on alone."""
    cluster = Cluster(2)
    removed = cluster.elect(1)
    caller = propose(cluster.members[asked], ChangeKind.REMOVE, 1)
    while 1 in removed.machine.members:
        cluster.now_ms += 100
        assert cluster.step() or cluster.now_ms < 100_000
        if cluster.now_ms % 1000 == 0:
            for world in cluster.members.values():
                world.driver.tick(cluster.now_ms, PLENTY)
    cluster.crash(1)
    left = cluster.members[2]
    put = left.put(b"k")
    cluster.run_until(lambda: put.answered)
    assert put.result is not None
    assert left.machine.conf_state.voters == (2,)
    assert asked == 1 or isinstance(caller.result, AckResult)


def test_a_leader_that_nobody_can_follow_removes_itself_all_the_same() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.network = lambda packet: [] if is_a(packet, MessageType.TIMEOUT_NOW) else [packet]
    caller = propose(leader, ChangeKind.REMOVE, 1)
    cluster.run_until(lambda: caller.answered)
    assert isinstance(caller.result, AckResult)


def test_a_change_lost_with_its_leader_is_made_by_the_next_one() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.network = lambda packet: [] if is_a(packet, MessageType.APPEND) else [packet]
    caller = propose(
        cluster.members[2], ChangeKind.ADD_LEARNER, 9, Member(ID=9, peerURLs=["http://9"])
    )
    cluster.settle()
    cluster.crash(1)
    cluster.network = lambda packet: [packet]
    cluster.run_until(lambda: caller.answered)
    assert isinstance(caller.result, AckResult)


# ── what a caller is told whose time is over ────────────────────────────────


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
    cluster.network = lambda packet: [packet]
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
    cluster.network = lambda packet: [] if is_a(packet, lost) else [packet]
    first = cluster.members[2].put(b"first")
    cluster.settle()
    first.gone = True
    before = cluster.crash(1)
    cluster.network = lambda packet: [packet]
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
    change = propose(world, ChangeKind.REMOVE, 3)
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
    cluster.network = lambda packet: [] if is_a(packet, MessageType.APPEND) else [packet]
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


# ── the disk ────────────────────────────────────────────────────────────────


def test_votes_are_asked_for_only_when_the_own_term_is_durable() -> None:
    cluster = Cluster()
    cluster.stalled_disks = {1}
    cluster.members[1].driver.raft.campaign()
    cluster.settle()
    assert all(
        world.driver.raft.raft.vote == 0 for world in (cluster.members[2], cluster.members[3])
    )
    cluster.stalled_disks = set()
    cluster.settle()
    assert cluster.leader is cluster.members[1]


def test_a_commit_index_alone_costs_a_follower_no_sync() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    syncs = {id_: world.log.statistics().sync_count for id_, world in cluster.members.items()}
    for number in range(5):
        leader.put(b"k%d" % number)
        cluster.settle()
    after = {id_: world.log.statistics().sync_count for id_, world in cluster.members.items()}
    assert {id_: after[id_] - syncs[id_] for id_ in syncs} == {1: 5, 2: 5, 3: 5}


# ── storms ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_lost_doubled_and_crashed_every_answered_write_is_there_once(seed: int) -> None:
    cluster = Cluster(seed=seed)
    dice = cluster.random
    down: dict[int, World] = {}
    puts: list[tuple[bytes, Caller]] = []

    def spoil(packet: Packet) -> list[Packet]:
        luck = dice.random()
        if luck < 0.1:
            return []
        if luck < 0.2:
            cluster.held.append(packet)
            return []
        arriving = [packet, packet] if luck < 0.3 else [packet]
        if cluster.held and luck > 0.8:
            arriving.append(cluster.held.pop(dice.randrange(len(cluster.held))))
        return arriving

    cluster.network = spoil
    for number in range(150):
        if dice.random() < 0.05 and not down:
            id_ = dice.choice(sorted(cluster.members))
            down[id_] = cluster.crash(id_)
        elif down and dice.random() < 0.1:
            id_, before = down.popitem()
            cluster.restart(id_, before)
        for _ in range(dice.randrange(3)):
            world = cluster.members[dice.choice(sorted(cluster.members))]
            key = b"%d-%d" % (number, len(puts))
            puts.append((key, world.put(key)))
        if puts:
            dice.choice(puts)[1].gone |= dice.random() < 0.1
        cluster.run(1)
    cluster.network = lambda packet: [packet]
    for id_, before in down.items():
        cluster.restart(id_, before)
    cluster.run_until(lambda: cluster.leader is not None and cluster.all_equal())
    cluster.run(80)
    world = cluster.members[1]
    acknowledged = [key for key, put in puts if put.result is not None]
    assert acknowledged
    for key in acknowledged:
        row = world.machine.store.get_row(0, key)
        assert row is not None
    applied = world.machine.revision - 1
    assert len(acknowledged) <= applied <= len(puts)
    assert cluster.all_equal()


def is_a(packet: Packet, type_: MessageType) -> bool:
    return isinstance(packet.frame, Message) and packet.frame.type is type_


def test_the_leader_of_the_last_term_is_the_leader() -> None:
    cluster = Cluster()
    cluster.elect(2)
    assert [w.driver.raft.raft.role for w in cluster.members.values()] == [
        Role.FOLLOWER,
        Role.LEADER,
        Role.FOLLOWER,
    ]
