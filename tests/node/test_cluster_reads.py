"""Reads of several members: each waits for what its level promises, and asks no more than that."""

from __future__ import annotations

from chainfire.node.readgate import PATIENCE
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL, SERIALIZABLE
from chainfire.raft.messages import Message, MessageType
from tests.node.cluster import Cluster, Packet, is_a, losing, reliable


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
    cluster.network = reliable
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
    cluster.network = losing(MessageType.READ_INDEX_REPLY)
    read = cluster.members[3].read(LINEARIZABLE)
    cluster.settle()
    assert not read.answered
    cluster.crash(1)
    cluster.network = reliable
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
    cluster.network = losing(MessageType.READ_INDEX)
    read = world.read(LINEARIZABLE)
    cluster.settle()
    for packet in held:
        cluster.deliver(packet)
    cluster.settle()
    assert held and not read.may_read
