"""What there is comes first (`send_initial`), then what changes, without a gap."""

from __future__ import annotations

import pytest

from chainfire.proto.watch_pb2 import WatchCreateRequest
from tests.watch.world import World


@pytest.mark.parametrize("room_bytes", [1, 1 << 20])
def test_the_initial_state_comes_first_then_what_changes_without_a_gap(room_bytes: int) -> None:
    world = World(sliced=True)
    for number in range(300):
        world.put(b"k%03d" % number, bytes(1000))
    client = world.client(room_bytes=room_bytes)
    client.watch(b"k", b"l", send_initial=True)
    world.step()
    world.put(b"k000", b"during")
    world.delete(b"k299")
    assert client.progress() is None
    for _ in range(1000):
        world.settle()
        client.read()
    initial = [r for r in client.told if r.initial or r.initial_complete]
    assert [r.initial_complete for r in initial] == [False] * (len(initial) - 1) + [True]
    found = [event.kv for r in initial for event in r.events]
    assert [kv.key for kv in found] == [b"k%03d" % number for number in range(300)]
    assert all(len(kv.value) == 1000 for kv in found)
    assert {r.header.revision for r in initial} == {301}
    later = [event for r in client.told if not r.initial for event in r.events]
    assert [event.kv.mod_revision for event in later] == [302, 303]
    assert client.told.index(initial[-1]) < len(client.told) - 1


def test_filters_concern_what_changes_and_none_of_what_there_is() -> None:
    """Or who wants what there is and then what goes would need two watches, with a gap."""
    world = World()
    world.put(b"a")
    world.put(b"b")
    client = world.client()
    client.watch(b"a", b"z", send_initial=True, filters=[WatchCreateRequest.NOPUT])
    world.put(b"c")
    world.delete(b"a")
    assert client.short() == ["2 a=", "3 b=", "5 a-"]


def test_an_initial_state_that_is_compacted_meanwhile_ends_the_watch() -> None:
    world = World(sliced=True)
    for number in range(300):
        world.put(b"k%03d" % number, bytes(10_000))
    client = world.client(room_bytes=1)
    client.watch(b"k", b"l", send_initial=True)
    world.settle()
    client.read()
    world.settle()
    world.put(b"x")
    world.compact(302)
    for _ in range(5):
        client.read()
        world.settle()
    assert (client.told[-1].canceled, client.told[-1].compact_revision) == (True, 302)
