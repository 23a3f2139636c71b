"""Who starts in the past, does not read, or was left behind, catches up without gap or repeat."""

from __future__ import annotations

import pytest

from chainfire.watch import hub
from tests.watch.world import World, delete, put


@pytest.mark.parametrize("start", [1, 2, 3, 5, 6])
def test_a_past_start_is_told_from_the_store_then_live_without_gap_or_repeat(start: int) -> None:
    world = World()
    for number in range(4):
        world.put(b"k", b"%d" % number)  # 2 to 5
    client = world.client()
    client.watch(b"k", start_revision=start)
    world.put(b"k", b"live")
    assert client.revisions() == list(range(max(start, 2), 7))


def test_a_key_that_is_watched_from_far_back_is_told_without_a_walk_over_all_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.put(b"k", b"first")
    for _ in range(20):
        world.apply(*[put(b"other")] * (hub.FAR // 20))
    world.put(b"k", b"last")
    walks: list[object] = []
    monkeypatch.setattr(hub, "change_steps", lambda *asked: walks.append(asked))
    client = world.client()
    client.watch(b"k", start_revision=1)
    world.put(b"k", b"live")
    last = world.machine.revision
    assert client.revisions() == [2, last - 1, last]
    assert walks == []


def test_a_slow_client_is_told_nothing_until_it_reads_and_then_everything_once() -> None:
    world = World()
    slow, quick = world.client(room_bytes=400), world.client()
    for client in (slow, quick):
        client.watch(b"k")
        client.watch(b"a", b"z")
        client.watch(b"other")
    for number in range(20):
        world.put(b"k", bytes(50) + b"%d" % number)
    assert quick.revisions() == list(range(2, 22))
    assert len(slow.revisions()) < 10, "its buffer is bounded"
    assert world.hub.statistics().slow_watchers == 3
    assert slow.progress() is None
    while slow.room <= 0:
        slow.read()
    world.put(b"other")
    while slow.room <= 0:
        slow.read()
    for watch_id in (0, 1):
        assert slow.revisions(watch_id) == quick.revisions(watch_id)
    assert slow.short(2) == ["22 other="]
    assert slow.progress() == 22
    assert world.hub.statistics().slow_watchers == 0


def test_a_compaction_that_overtakes_a_slow_client_is_told_and_its_watchers_end() -> None:
    world = World()
    slow = world.client(room_bytes=300)
    slow.watch(b"k")
    for _ in range(10):
        world.put(b"k", bytes(100))
    told = len(slow.revisions())
    world.compact(10)
    assert len(slow.told) == 1 + told
    slow.read()
    end = slow.told[-1]
    assert (end.canceled, end.compact_revision, end.cancel_reason) == (True, 10, "")
    assert slow.revisions() == list(range(2, 2 + told))
    world.put(b"k")
    assert slow.told[-1] is end
    assert world.hub.statistics().watchers == 0
    # As in etcd its id stays taken until it is cancelled.
    slow.read()
    assert slow.watch(b"k", watch_id=0).watch_id == 1


def test_a_start_at_the_compacted_revision_works_and_before_it_is_refused_after_created() -> None:
    """etcd #18089, #19179: the delete at the compacted revision is told."""
    world = World()
    world.put(b"a")
    world.delete(b"a")
    world.put(b"b")
    world.compact(3)
    client = world.client()
    client.watch(b"a", start_revision=3)
    assert client.short(0) == ["3 a-"]
    created = client.watch(b"a", start_revision=2)
    assert (created.created, created.canceled, created.watch_id) == (True, False, 1)
    end = client.told[-1]
    assert (end.watch_id, end.canceled, end.compact_revision) == (1, True, 3)
    assert client.progress() == 4


def test_a_replaced_store_leaves_live_watchers_behind_and_they_catch_up() -> None:
    """etcd #15271: a snapshot is installed under live watchers."""
    world = World()
    client = world.client()
    client.watch(b"k")
    client.watch(b"a", b"z")
    world.put(b"k", b"1")
    ahead = World()
    for number in range(1, 5):
        ahead.put(b"k", b"%d" % number)
    world.machine, world.backend = ahead.machine, ahead.backend
    world.hub.restored(ahead.machine.revision)
    world._sequence = ahead._sequence
    world.put(b"k", b"5")
    assert client.short(0) == client.short(1) == [f"{n + 1} k={n}" for n in range(1, 6)]
    assert client.progress() == 6


@pytest.mark.interpreted
def test_watchers_that_come_back_at_many_places_read_the_history_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(sliced=True)
    for _ in range(40):
        world.put(b"k")
    walked = 0
    iterate = world.backend.iterate

    def counting(family: str, *bounds: object, **options: object):  # type: ignore[no-untyped-def]
        nonlocal walked
        for row in iterate(family, *bounds, **options):  # type: ignore[arg-type]
            walked += family == "revisions"
            yield row

    monkeypatch.setattr(world.backend, "iterate", counting)
    client = world.client(room_bytes=1 << 30)
    for start in range(2, 42):
        client.watch(b"k", start_revision=start)
    world.settle()
    assert all(client.revisions(n) == list(range(n + 2, 42)) for n in range(40))
    assert walked < 120, "each revision once, and some twice where portions meet"


def test_a_watcher_cancelled_while_its_history_is_read_hears_nothing_more() -> None:
    world = World(sliced=True)
    for _ in range(500):
        world.put(b"k")
    client = world.client()
    client.watch(b"k", start_revision=2)
    world.step()
    client.cancel(0)
    told = len(client.told)
    world.settle()
    assert len(client.told) == told
    assert world.hub.statistics().watchers == 0


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.interpreted
def test_changes_that_are_missing_from_a_turn_are_told_from_the_store(missing: int) -> None:
    """As after a snapshot was installed, and after a delete that was applied in slices."""
    world = World()
    client = world.client()
    client.watch(b"", b"\0")
    whole = world.hub.applied

    def with_a_gap(changes, revision: int) -> None:  # type: ignore[no-untyped-def]
        whole([entry for at, entry in enumerate(changes) if at != missing], revision)

    world.hub.applied = with_a_gap  # type: ignore[method-assign]
    world.apply(put(b"a", b"1"), delete(b"a"), put(b"a", b"2"))
    world.hub.applied = whole  # type: ignore[method-assign]
    world.put(b"b", b"3")
    assert client.short() == ["2 a=1", "3 a-", "4 a=2", "5 b=3"]
