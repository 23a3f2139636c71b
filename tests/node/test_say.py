"""What a member tells the others between two turns: no turn is made for an answer alone."""

from __future__ import annotations

import pytest

from chainfire.node.effects import Effects
from chainfire.node.frames import Frame
from chainfire.proto.kv_pb2 import LINEARIZABLE
from chainfire.raft.messages import Message, MessageType
from tests.node.cluster import Cluster, Packet
from tests.node.world import Caller, World


def appends_held(cluster: Cluster) -> list[Packet]:
    """A put at the leader, whose APPENDs are on their way."""
    leader = cluster.elect()
    leader.put(b"k")
    cluster._post(leader.me, leader.turn())
    packets, cluster.undelivered = cluster.undelivered, []
    return packets


def types(frames: list[Frame]) -> list[MessageType]:
    return [frame.type for frame in frames if isinstance(frame, Message)]


def delivered(cluster: Cluster) -> World:
    packet = appends_held(cluster)[0]
    follower = cluster.members[packet.to]
    assert follower.driver.received(packet.sender, [packet.frame])
    return follower


def test_entries_are_acknowledged_when_they_are_durable_without_a_turn() -> None:
    follower = delivered(Cluster())
    effects = follower.turn()
    assert effects.sync is not None and not effects.frames
    assert not follower.driver.say().frames
    follower.log.sync()
    assert not follower.driver.synced(effects.sync)
    assert not follower.driver.is_due
    assert types(follower.driver.say().frames[1]) == [MessageType.APPEND_REPLY]
    assert not follower.driver.say().frames


def test_entries_leave_before_the_leaders_own_disk_writes_them() -> None:
    leader = Cluster().elect()
    log, left = leader.driver.log, list[tuple[list[MessageType], int]]()

    def send(effects: Effects) -> None:
        left.extend((types(frames), log.last_index()) for frames in effects.frames.values())

    leader.driver.send_through(send)
    before = log.last_index()
    leader.put(b"k")
    effects = leader.turn()
    assert left == [([MessageType.APPEND], before)] * 2
    assert log.last_index() == before + 1
    assert not effects.frames, "they leave once"


def test_an_acknowledgement_does_not_leave_before_the_disk_has_written() -> None:
    follower = delivered(Cluster())
    follower.driver.send_through(lambda effects: pytest.fail(f"{effects.frames} left"))
    assert follower.turn().sync is not None


def test_what_was_written_during_a_sync_wants_a_turn() -> None:
    follower = delivered(Cluster())
    effects = follower.turn()
    assert effects.sync is not None
    core = follower.driver.raft.raft
    index = core.log.last_index
    more = Message(MessageType.APPEND, follower.me, 1, core.term, core.term, index, commit=index)
    assert follower.driver.received(1, [more])
    follower.log.sync()
    follower.driver.synced(effects.sync)
    assert follower.driver.is_due


def test_a_heartbeat_is_answered_without_a_turn() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.settle()
    follower = cluster.members[2]
    heartbeat = Message(MessageType.HEARTBEAT, 2, 1, follower.driver.raft.raft.term)
    assert not follower.driver.received(1, [heartbeat])
    assert types(follower.driver.say().frames[1]) == [MessageType.HEARTBEAT_REPLY]


def test_a_heartbeat_with_news_wants_a_turn() -> None:
    follower = delivered(Cluster())
    follower.sync(follower.turn())
    core = follower.driver.raft.raft
    last = core.log.last_index
    heartbeat = Message(MessageType.HEARTBEAT, follower.me, 1, core.term, commit=last)
    assert follower.driver.received(1, [heartbeat])
    # What is to be said waits for it.
    assert MessageType.HEARTBEAT_REPLY not in types(follower.driver.say().frames.get(1, []))
    assert MessageType.HEARTBEAT_REPLY in types(follower.turn().frames[1])


def test_a_snapshot_that_an_answer_asks_for_is_sent_without_a_turn() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.cut = {3}
    for number in range(5):
        leader.put(b"%d" % number)
        cluster.settle()
    leader.driver.log.note_state_durable(leader.machine.applied_index)
    leader.driver.log.truncate_front(leader.machine.applied_index)
    term = leader.driver.raft.raft.term
    reply = Message(MessageType.HEARTBEAT_REPLY, 1, 3, term)
    assert not leader.driver.received(3, [reply])
    assert [message.to for message in leader.driver.say().snapshots] == [3]


def test_a_read_at_a_leader_takes_no_turn_at_all() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.settle()
    reads = [leader.read(LINEARIZABLE) for _ in range(3)]
    assert leader.driver.awaits_round
    leader.driver.begin_round()
    asked = leader.driver.say()
    assert types(asked.frames[2]) == [MessageType.HEARTBEAT]
    follower = cluster.members[2]
    assert not follower.driver.received(1, asked.frames[2])
    assert not leader.driver.received(2, follower.driver.say().frames[1])
    said = leader.driver.say()
    assert len(said.reads) == len(reads) and not said.more and not leader.driver.awaits_round


def asked(follower: World) -> tuple[Caller, bytes]:
    """A linearizable read, and the round in which it asks its leader, which is member 1."""
    read = follower.read(LINEARIZABLE)
    follower.driver.begin_round()
    (context,) = [f.context for f in follower.driver.say().frames[1] if isinstance(f, Message)]
    return read, context


def test_a_read_whose_index_is_not_applied_wants_a_turn() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.settle()
    follower = cluster.members[2]
    read, context = asked(follower)
    core = follower.driver.raft.raft
    index = core.log.last_index + 1
    answer = Message(MessageType.READ_INDEX_REPLY, 2, 1, core.term, index=index, context=context)
    assert not follower.driver.received(1, [answer])
    said = follower.driver.say()
    assert not said.reads and said.more
    leader.put(b"k")
    cluster.settle()
    assert read.may_read


def test_an_index_that_comes_with_a_change_of_leader_is_not_used() -> None:
    """etcd#21375: what the old one said is forgotten first, and the new one is asked."""
    cluster = Cluster()
    cluster.elect()
    cluster.settle()
    follower = cluster.members[2]
    read, context = asked(follower)
    core = follower.driver.raft.raft
    term, index = core.term, core.log.committed
    answer = Message(MessageType.READ_INDEX_REPLY, 2, 1, term, index=index, context=context)
    new = Message(MessageType.HEARTBEAT, 2, 3, term + 1)
    assert follower.driver.received(1, [answer, new])
    assert not follower.driver.say().reads
    messages = [frame for frame in follower.turn().frames[3] if isinstance(frame, Message)]
    [asks] = [message for message in messages if message.type is MessageType.READ_INDEX]
    assert not read.answered and asks.context != context
