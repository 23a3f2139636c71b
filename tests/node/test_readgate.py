"""After a start a member shows no less than it has shown before, whatever it knew of commits."""

from __future__ import annotations

from chainfire.proto.kv_pb2 import LOCAL, SERIALIZABLE
from tests.node.cluster import Cluster
from tests.node.world import Caller, World


def started_again(cluster: Cluster, id_: int) -> World:
    """It has lost whatever was not synced, and hears nobody yet."""
    before = cluster.crash(id_)
    cluster.cut = {id_}
    world = cluster.restart(id_, before)
    cluster.settle()
    return world


def reads(world: World) -> list[Caller]:
    return [world.read(level) for level in (LOCAL, SERIALIZABLE)]


def test_a_commit_index_goes_with_the_next_entries() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    for key in (b"a", b"b"):
        committed = leader.driver.raft.raft.log.committed
        leader.put(key)
        cluster.settle()
        assert leader.log_store.hard_state.commit == committed
        assert leader.driver.raft.raft.log.committed == committed + 1


def test_nothing_is_read_before_all_of_the_log_is_applied_that_may_have_been_committed() -> None:
    cluster = Cluster()
    cluster.elect().put(b"k")
    cluster.settle()
    shown = cluster.members[1].machine.revision
    again = started_again(cluster, 1)
    waiting = reads(again)
    assert again.machine.revision < shown
    assert not any(reader.may_read for reader in waiting)
    cluster.cut = set()
    cluster.run_until(lambda: all(reader.may_read for reader in waiting))
    assert again.machine.revision == shown


def test_an_entry_of_a_newer_term_stands_for_what_was_never_committed() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.cut = {1}
    for key in (b"a", b"b", b"c"):
        leader.put(key)
        cluster.settle()
    log_end = leader.log_store.last_index()
    before = cluster.crash(1)
    cluster.run_until(lambda: cluster.leader is not None)
    again = cluster.restart(1, before)
    waiting = reads(again)
    cluster.settle()
    assert not any(reader.may_read for reader in waiting)
    cluster.cut = set()
    cluster.run_until(lambda: all(reader.may_read for reader in waiting))
    assert again.machine.applied_index < log_end


def test_a_log_that_is_applied_whole_asks_nobody() -> None:
    cluster = Cluster()
    cluster.elect().put(b"k")
    cluster.settle()
    follower = cluster.members[2]
    follower.state.sync()
    again = started_again(cluster, 2)
    assert again.read(LOCAL).may_read
