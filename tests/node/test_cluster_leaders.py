"""Changes of leader: what was on its way is proposed again, applied once and answered at once."""

from __future__ import annotations

from chainfire import command
from chainfire.node.frames import Forward, Refused
from chainfire.node.proposer import FORWARDED_MAX
from chainfire.raft.messages import Message, MessageType
from chainfire.types import PutResult
from tests.node.cluster import Cluster, Packet, is_a, losing, reliable


def test_a_write_lost_with_its_leader_is_proposed_again_and_answered_at_once() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.network = losing(MessageType.APPEND)
    put = cluster.members[2].put(b"k")
    cluster.settle()
    cluster.crash(1)
    cluster.network = reliable
    cluster.run_until(lambda: cluster.leader is not None)
    assert put.result == PutResult(revision=2)


def test_a_write_committed_by_a_leader_that_dies_is_applied_once_and_answered() -> None:
    cluster = Cluster()
    cluster.elect()
    # Everybody holds the entry, nobody hears that it is committed.
    cluster.network = losing(MessageType.APPEND_REPLY)
    put = cluster.members[2].put(b"k")
    cluster.settle()
    cluster.crash(1)
    cluster.network = reliable
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
    cluster.network = reliable
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


def test_a_leader_that_takes_long_is_not_buried_in_repetitions_where_messages_get_lost() -> None:
    """Each copy is an entry, and makes it take longer: a short log had grown by a hundred of each
    command (seed 7000168 of 30 s of the simulator).
    """
    cluster = Cluster()
    leader = cluster.elect()
    cluster.network = losing(MessageType.APPEND_REPLY)
    before = leader.log_store.last_index()
    put = cluster.members[2].put(b"k")
    for _ in range(60):  # ticks of 100 ms
        cluster.members[2].driver.unreachable(leader.me)
        cluster.run(1)
    # At once, after one tick, and after 2, 4, 8, 16 and more.
    assert leader.log_store.last_index() - before == 6
    cluster.network = reliable
    cluster.run_until(lambda: put.answered)
    assert put.result == PutResult(revision=2)
    assert leader.machine.revision == 2


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
