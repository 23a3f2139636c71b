"""What diverged stops serving; a majority finds out who it is, be it the leader."""

from __future__ import annotations

import pytest

from chainfire.command import CommandKind
from chainfire.errors import CorruptCluster, Diverged
from chainfire.node.divergence import Verdict
from chainfire.node.frames import Chain
from chainfire.node.journal import Journal
from chainfire.node.logstore import LogStore
from chainfire.proto.kv_pb2 import LOCAL
from chainfire.proto.maintenance_pb2 import CORRUPT
from chainfire.raft.messages import Message, MessageType
from chainfire.types import Alarm, ConfState, Entry, HardState
from tests.node.cluster import Cluster, Packet
from tests.node.world import Caller, World


def diverge(*worlds: World) -> None:
    """What the next entry does to them is not what it does to others, nor to each other."""
    for world in worlds:
        world.machine._chain.hash ^= world.me


def verdicts(cluster: Cluster) -> list[Verdict]:
    return [world.driver.soundness.verdict for _, world in sorted(cluster.members.items())]


SOUND, SUSPECT, ODD = Verdict.SOUND, Verdict.SUSPECT, Verdict.ODD


def elected(size: int = 3) -> Cluster:
    cluster = Cluster(size)
    cluster.elect()
    return cluster


def put_somewhere(cluster: Cluster) -> None:
    leader = cluster.leader
    assert leader is not None
    leader.put(b"k")
    cluster.run(2)


def test_a_follower_that_differs_is_found_within_a_heartbeat_and_serves_no_more() -> None:
    cluster = elected()
    odd = cluster.members[3]
    diverge(odd)
    put_somewhere(cluster)
    assert verdicts(cluster) == [SOUND, SOUND, ODD]
    cluster.run(2)
    assert list(cluster.members[1].machine.alarms) == [Alarm(3, CORRUPT)]
    for caller in (odd.read(LOCAL), odd.put(b"k")):
        assert isinstance(caller.error, CorruptCluster)
    assert cluster.members[2].read(LOCAL).may_read
    asked = Caller()
    odd.driver.propose(CommandKind.ALARM, b"", asked)
    cluster.run(1)
    assert asked.result is not None, "alarms can be asked for"
    assert odd.driver.soundness.may_heal


def test_a_leader_that_is_the_odd_one_lets_another_one_lead() -> None:
    cluster = elected()
    odd = cluster.members[1]
    diverge(odd)
    put_somewhere(cluster)
    cluster.run_until(lambda: odd.driver.soundness.may_heal)
    assert verdicts(cluster) == [ODD, SOUND, SOUND]
    leader = cluster.leader
    assert leader is not None and leader is not odd
    assert list(leader.machine.alarms) == [Alarm(1, CORRUPT)]
    assert all(world.read(LOCAL).may_read for world in cluster.followers if world is not odd)


def test_an_odd_one_does_not_stand_for_election() -> None:
    cluster = elected()
    odd = cluster.members[3]
    diverge(odd)
    put_somewhere(cluster)
    cluster.run(2)
    cluster.crash(1)
    cluster.run_until(lambda: cluster.leader is not None and cluster.leader.me == 2)
    cluster.members[2].driver.move_leader(3, Caller())
    cluster.run(30)
    assert cluster.leader is not None and cluster.leader.me == 2


def test_two_members_cannot_tell_who_is_right() -> None:
    cluster = elected(2)
    diverge(cluster.members[2])
    put_somewhere(cluster)
    cluster.run(10)
    assert verdicts(cluster) == [SOUND, SUSPECT]
    assert list(cluster.members[1].machine.alarms) == [Alarm(2, CORRUPT)]
    assert not any(world.driver.soundness.may_heal for world in cluster.members.values())


@pytest.mark.parametrize("odd", [1, 2])
def test_who_is_right_is_decided_when_the_third_one_comes_back(odd: int) -> None:
    cluster = elected()
    away = cluster.crash(3)
    diverge(cluster.members[odd])
    put_somewhere(cluster)
    cluster.run(10)
    assert verdicts(cluster) == [SOUND, SUSPECT]
    assert list(cluster.members[1].machine.alarms) == [Alarm(2, CORRUPT)]
    cluster.restart(3, away)
    cluster.run_until(lambda: cluster.members[odd].driver.soundness.may_heal)
    cluster.run(5)
    expected = [SOUND, SOUND, SOUND]
    expected[odd - 1] = ODD
    assert verdicts(cluster) == expected
    assert list(cluster.members[3].machine.alarms) == [Alarm(odd, CORRUPT)]


def test_where_all_differ_nobody_begins_anew() -> None:
    cluster = elected()
    diverge(cluster.members[2], cluster.members[3])
    put_somewhere(cluster)
    cluster.run(20)
    assert verdicts(cluster) == [SOUND, SUSPECT, SUSPECT]
    assert not any(world.driver.soundness.may_heal for world in cluster.members.values())


def test_of_two_odd_ones_one_begins_anew_first() -> None:
    cluster = elected(5)
    diverge(cluster.members[4], cluster.members[2])
    put_somewhere(cluster)
    cluster.run(10)
    assert verdicts(cluster) == [SOUND, ODD, SOUND, ODD, SOUND]
    assert [id for id, world in cluster.members.items() if world.driver.soundness.may_heal] == [2]
    cluster.crash(2)
    cluster.lose_disk(2)
    cluster.run_until(lambda: cluster.members[4].driver.soundness.may_heal)
    assert verdicts(cluster) == [SOUND, SOUND, SOUND, ODD, SOUND]
    cluster.crash(4)
    cluster.lose_disk(4)
    cluster.run_until(lambda: not cluster.members[4].machine.alarms and cluster.all_equal())
    assert set(verdicts(cluster)) == {SOUND}
    put = cluster.members[4].put(b"k")
    cluster.run(1)
    assert put.result is not None


def test_a_chain_that_is_ahead_is_compared_when_it_is_applied() -> None:
    cluster = elected(2)
    world = cluster.members[2]
    cluster.run(1)
    world.driver.received(1, [Chain(world.machine.applied_index + 1, 7)])
    assert world.driver.soundness.verdict is SOUND
    cluster.members[1].put(b"k")
    cluster.settle()
    cluster.network = lambda packet: [] if isinstance(packet.frame, Chain) else [packet]
    cluster.run(1)
    assert world.driver.soundness.verdict is SUSPECT


def test_equal_members_never_take_each_other_for_different_and_say_little() -> None:
    cluster = elected()
    said: list[int] = []

    def listen(packet: Packet) -> list[Packet]:
        if isinstance(packet.frame, Chain):
            said.append(packet.sender)
        return [packet]

    cluster.network = listen
    for number in range(30):
        cluster.members[1 + number % 3].put(b"%d" % number)
        cluster.run(1)
    assert set(verdicts(cluster)) == {SOUND}
    assert set(said) == {1}, "only the leader says where it stands"


def test_who_took_for_committed_what_others_replaced_ends() -> None:
    """As a leader does that counts its own disk alone, and then comes back."""
    cluster = elected()
    before = cluster.crash(1)
    log = LogStore(before.log, ConfState((1, 2, 3)))
    last, hard = log.last_index(), log.hard_state
    log.append([Entry(hard.term, last + 1)], HardState(hard.term, hard.vote, last + 1))
    before.log.sync()
    cluster.run_until(lambda: cluster.leader is not None)
    put_somewhere(cluster)
    cluster.restart(1, before)
    said: list[int] = []

    def listen(packet: Packet) -> list[Packet]:
        said.append(packet.sender)
        return [packet]

    cluster.network = listen
    with pytest.raises(Diverged, match=f"entry {last + 1} of term {hard.term} is committed here"):
        cluster.run(5)
    assert said.count(1) < 10, "it asks for nothing that would not help"


def test_who_is_contradicted_by_its_leader_serves_nothing_until_it_knows_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = elected()
    world = cluster.members[3]
    journal = Journal(world.driver, slow_turn_seconds=0)
    raft = world.driver.raft.raft
    commit = raft.log.committed
    world.driver.received(1, [Message(MessageType.APPEND, 3, 1, raft.term, 7, commit)])
    assert isinstance(world.read(LOCAL).error, CorruptCluster)
    assert isinstance(world.put(b"k").error, CorruptCluster)
    for _ in range(2):
        journal.tick()
    assert [vars(record)["index"] for record in caplog.records] == [commit], "it is said once"


def test_a_snapshot_makes_a_member_sound() -> None:
    cluster = elected()
    diverge(cluster.members[3])
    put_somewhere(cluster)
    divergence = cluster.members[3].driver.soundness.divergence
    assert divergence.is_found
    divergence.reset()
    assert not divergence.is_found and not divergence.wants_alarm
