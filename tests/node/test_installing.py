"""A member that the log cannot catch up takes over a snapshot, whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainfire.errors import Outdated, Stalled
from chainfire.machine import bootstrap
from chainfire.node.installing import Installing
from chainfire.node.logstore import LogMeta, LogStore
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import ConfChangeContext
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.raft.ready import Role
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import ConfState, Entry, EntryType, HardState
from tests.node.cluster import Cluster
from tests.node.world import MemoryPlace, World


def far_behind(tmp_path: Path) -> Cluster:
    """Member 3 was away while 40 entries were written and the log's front was cut."""
    cluster = Cluster()
    cluster.snapshots = tmp_path
    cluster.elect()
    cluster.cut = {3}
    for number in range(40):
        cluster.members[1].put(b"k%d" % number)
        cluster.settle()
    for id_ in (1, 2):
        world = cluster.members[id_]
        world.state.sync()
        world.log_store.note_state_durable(world.machine.applied_index)
        world.log_store.truncate_front(world.machine.applied_index - 2)
    return cluster


def test_a_member_far_behind_is_sent_a_snapshot_and_goes_on_from_the_log(tmp_path: Path) -> None:
    cluster = far_behind(tmp_path)
    world = cluster.members[3]
    term = world.driver.raft.raft.term
    cluster.cut = set()
    cluster.run_until(cluster.all_equal)
    assert world.log_store.first_index() == cluster.members[1].machine.applied_index + 1
    assert world.log_store.hard_state.term == term
    put = world.put(b"after")
    cluster.run(3)
    assert put.result is not None and cluster.all_equal()
    assert world.machine.store.get_row(0, b"k39") is not None
    after = cluster.restart(3, cluster.crash(3))
    assert after.machine.revision == 41, "the snapshot is durable, what came after it is replayed"
    cluster.run(3)
    assert cluster.all_equal()


def test_a_snapshot_that_does_not_arrive_is_sent_again(tmp_path: Path) -> None:
    cluster = far_behind(tmp_path)
    cluster.snapshots, cluster.cut = None, set()
    cluster.run(5)
    assert not cluster.all_equal()
    cluster.snapshots = tmp_path
    cluster.run_until(cluster.all_equal)


def test_what_a_snapshot_has_swallowed_is_answered_as_unknown(tmp_path: Path) -> None:
    cluster = far_behind(tmp_path)
    world = cluster.members[3]
    cluster.cut = set()
    # Its command is committed and applied by the others; it hears of nothing but the snapshot.
    put = world.put(b"mine")
    forward = world.turn().frames[1]
    cluster.cut = {3}
    cluster.members[1].driver.received(3, forward)
    cluster.settle()
    for id_ in (1, 2):
        leader = cluster.members[id_]
        leader.state.sync()
        leader.log_store.note_state_durable(leader.machine.applied_index)
        leader.log_store.truncate_front(leader.machine.applied_index)
    cluster.cut = set()
    cluster.run(6)
    assert isinstance(put.error, Outdated)
    assert world.machine.store.get_row(0, b"mine") is not None


def test_a_snapshot_that_raft_does_not_want_is_discarded() -> None:
    cluster = Cluster()
    cluster.elect()
    world = cluster.members[3]
    term = world.driver.raft.raft.term
    old = Message(MessageType.SNAPSHOT, 3, 1, term, snapshot=Snapshot(1, 1, ConfState((1, 2, 3))))
    world.driver.snapshot_received(old, "state-000007")
    assert world.place.discarded == ["state-000007"]


def test_a_snapshot_waits_for_a_membership_change_that_is_being_applied(tmp_path: Path) -> None:
    """Or that change would be made in the membership that came with the snapshot."""
    world = World(voters=(1, 2, 3))
    driver = world.driver
    added = Member(ID=4, peerURLs=["http://127.0.0.1:4"], isLearner=True)
    context = ConfChangeContext(member_id=2, start_number=1, sequence=1, members=[added])
    steps = (ChangeStep(ChangeKind.ADD_LEARNER, 4),)
    enter = ConfChange(steps, context=context.SerializeToString())
    entries = [Entry(1, 1), Entry(1, 2, EntryType.CONF_CHANGE_V2, enter.encode())]
    driver.received(2, [Message(MessageType.APPEND, 1, 2, 1, entries=entries, commit=2)])
    world.state.stalled = True
    world.sync(world.turn())
    assert world.turn().stalled  # the change is handed out, and cannot be written
    world.place.root = tmp_path
    snapshot = Snapshot(9, 1, ConfState((1, 2, 3)))
    message = Message(MessageType.SNAPSHOT, 1, 2, 1, snapshot=snapshot)
    driver.snapshot_received(message, staged_state(tmp_path / "state-000002", 9))
    world.turn()
    assert not world.place.discarded and world.machine.applied_index < 2
    world.state.stalled = False
    world.settle()
    assert world.machine.applied_index == 9
    assert driver.raft.raft.tracker.conf == world.machine.conf_state == snapshot.conf_state


def staged_state(path: Path, index: int) -> str:
    state = MemoryBackend(STATE_FAMILIES)
    voters = ConfState((1, 2, 3))
    members = list(World(voters=(1, 2, 3)).machine.members.values())
    bootstrap(state, members, voters, "3.7.0", founded_at=index)
    state.checkpoint(path)
    return path.name


def test_a_stall_between_the_switch_and_the_cut_of_the_log_is_gone_on_from(tmp_path: Path) -> None:
    world = World(voters=(1, 2, 3))
    log_backend = MemoryBackend(LOG_FAMILIES)
    log = LogStore(log_backend, ConfState((1, 2, 3)))
    log.append([Entry(1, 1)], HardState(3, 2, 0))

    class Place(MemoryPlace):
        switches = 0

        def switch_state(self, staged: str) -> None:
            Place.switches += 1
            super().switch_state(staged)
            log_backend.stalled = True

    installing = Installing(log, world.machine, Place(world.state, tmp_path))
    snapshot = Snapshot(9, 9, ConfState((1, 2, 3)))
    staged = staged_state(tmp_path / "state-000002", 9)
    message = Message(MessageType.SNAPSHOT, 1, 2, 3, snapshot=snapshot)
    installing.stage(message, staged)
    with pytest.raises(Stalled):
        installing.install(snapshot, HardState(3, 2, 9))
    meta = LogMeta.read(log_backend)
    assert meta.installing is not None and meta.installing.directory == "state-000002"
    log_backend.stalled = False
    installing.install(snapshot, HardState(3, 2, 9))
    assert Place.switches == 1
    assert (log.first_index(), log.last_index(), log.term(9)) == (10, 9, 9)
    assert LogMeta.read(log_backend).installing is None
    assert log.hard_state == HardState(3, 2, 9), "the receiver keeps its term and vote"


def test_a_late_sync_does_not_promise_again_what_the_snapshot_has_replaced(tmp_path: Path) -> None:
    world = World(voters=(1, 2, 3))
    driver = world.driver
    old = [Entry(1, index) for index in range(1, 21)]
    driver.received(2, [Message(MessageType.APPEND, 1, 2, 1, entries=old)])
    effects = world.turn()  # written; its sync is under way
    snapshot = Snapshot(9, 9, ConfState((1, 2, 3)))
    message = Message(MessageType.SNAPSHOT, 1, 3, 9, snapshot=snapshot)
    world.place.root = tmp_path
    driver.snapshot_received(message, staged_state(tmp_path / "state-000002", 9))
    world.turn()
    world.sync(effects)
    assert world.witness.notes[-1][0] < 9
    world.settle()
    assert world.witness.notes[-1][:2] == (9, 9)
    assert world.machine.applied_index == 9 and driver.raft.raft.role is Role.FOLLOWER


def test_until_the_switch_the_witness_promises_what_the_old_log_holds(tmp_path: Path) -> None:
    """A crash may come between the two, and the log may know another term at that index."""
    world = World(voters=(1, 2, 3))
    old = [Entry(1, index) for index in range(1, 21)]
    world.driver.received(2, [Message(MessageType.APPEND, 1, 2, 1, entries=old, commit=3)])
    world.settle()
    before = LogStore(world.log, ConfState((1, 2, 3)))
    promised = []
    world.place.before_switch = lambda: promised.append(world.witness.notes[-1][:2])
    world.place.root = tmp_path
    snapshot = Snapshot(9, 9, ConfState((1, 2, 3)))
    message = Message(MessageType.SNAPSHOT, 1, 3, 9, snapshot=snapshot)
    world.driver.snapshot_received(message, staged_state(tmp_path / "state-000002", 9))
    world.turn()
    ((index, term),) = promised
    assert index <= 9 and before.term(index) == term
