"""Progress is told of what was told, and of no more."""

from __future__ import annotations

from tests.watch.world import World


def test_progress_waits_until_every_watcher_of_the_stream_has_caught_up() -> None:
    """etcd #15220."""
    world = World(sliced=True)
    client = world.client()
    assert client.progress() is None  # nobody watches
    client.watch(b"k")
    assert client.progress() == 1
    for _ in range(500):
        world.put(b"k")
    client.watch(b"k", start_revision=2)
    while world.work:
        assert client.progress() in (None, world.machine.revision)
        if client.progress() is not None:
            break
        world.step()
    assert client.revisions(1) == list(range(2, 502))
    assert client.progress() == 501


def test_no_progress_is_told_below_where_a_watcher_of_the_future_begins() -> None:
    """etcd #20221: a client that resumes from there hears what it did not ask for."""
    world = World()
    client = world.client()
    client.watch(b"k")
    client.watch(b"k", progress_notify=True, start_revision=5)
    told = {}
    for _ in range(5):
        before = len(client.told)
        run(world)
        own = [r.header.revision for r in client.told[before:] if r.watch_id == 1]
        told[world.machine.revision] = own, client.progress()
        world.put(b"other")
    assert told == {1: ([], None), 2: ([], None), 3: ([], None), 4: ([4], 4), 5: ([5], 5)}


def test_periodic_progress_is_told_to_quiet_watchers_that_are_live_and_asked_for_it() -> None:
    world = World()
    client = world.client()
    client.watch(b"quiet", progress_notify=True)
    client.watch(b"busy", progress_notify=True)
    client.watch(b"silent")
    client.watch(b"future", progress_notify=True, start_revision=100)
    world.put(b"busy")
    told = len(client.told)
    run(world)
    assert [(r.watch_id, r.header.revision) for r in client.told[told:]] == [(0, 2)]
    run(world)
    assert [(r.watch_id, r.header.revision) for r in client.told[told + 1 :]] == [(0, 2), (1, 2)]


def run(world: World) -> None:
    for _ in world.hub.progress_steps():
        pass
