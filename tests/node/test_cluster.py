"""Several members: every write is answered once and applied once, whatever happens to messages."""

from __future__ import annotations

import pytest

from chainfire.raft.ready import Role
from chainfire.types import PutResult
from tests.node.cluster import Cluster, Packet, reliable
from tests.node.world import Caller, World


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
    cluster.network = reliable
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


def test_the_leader_of_the_last_term_is_the_leader() -> None:
    cluster = Cluster()
    cluster.elect(2)
    assert [w.driver.raft.raft.role for w in cluster.members.values()] == [
        Role.FOLLOWER,
        Role.LEADER,
        Role.FOLLOWER,
    ]
