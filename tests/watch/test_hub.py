"""What live watchers are told: in order, each event once, revisions whole, as they wished it."""

from __future__ import annotations

import gc

import pytest

from chainfire.command import CommandKind
from chainfire.machine import giant
from chainfire.proto import kv_pb2
from chainfire.proto.command_pb2 import LeaseExpire, LeaseGrant
from chainfire.proto.lease_pb2 import LeaseRevokeRequest
from chainfire.watch.groups import Cohort, Watcher, WatchStream
from tests.watch.world import World, delete, put, txn


def test_live_watchers_are_told_of_what_they_watch_and_no_more() -> None:
    world = World()
    client = world.client()
    client.watch(b"b")
    client.watch(b"a", b"c")
    client.watch(b"b", b"\0")
    client.watch(b"b", filters=[0])
    for key in (b"a", b"b", b"c"):
        world.put(key, b"1")
    world.delete(b"b")
    assert client.short(0) == ["3 b=1", "5 b-"]
    assert client.short(1) == ["2 a=1", "3 b=1", "5 b-"]
    assert client.short(2) == ["3 b=1", "4 c=1", "5 b-"]
    assert client.short(3) == ["5 b-"]


def test_a_future_start_hears_nothing_older_even_within_one_turn() -> None:
    """etcd #20221."""
    world = World()
    client = world.client()
    client.watch(b"k", start_revision=4, progress_notify=True)
    assert client.progress() is None  # its start is not reached
    world.put(b"k")  # 2
    assert [r for r in client.told if not r.created] == []
    world.apply(put(b"k"), put(b"k"), put(b"k"), put(b"k"))  # 3 to 6
    assert client.revisions() == [4, 5, 6]
    world.put(b"k")
    assert client.revisions() == [4, 5, 6, 7]
    assert client.progress() == 7


@pytest.mark.parametrize("start", [3, 4, 5, 6])
@pytest.mark.parametrize("room_bytes", [1, 1 << 20])
def test_a_future_start_that_one_turn_reaches_and_compacts_is_told(
    start: int, room_bytes: int
) -> None:
    """Puts may be answered before they are applied: a client that waits for each comes so far."""
    world = World()
    client = world.client(room_bytes)
    client.watch(b"k", start_revision=start)
    other = world.client()
    other.watch(b"k")
    client.read()
    compact = CommandKind.COMPACT, kv_pb2.CompactionRequest(revision=6).SerializeToString()
    world.apply(put(b"k"), put(b"k"), delete(b"k"), put(b"k"), put(b"k"), compact)  # 2 to 6
    assert client.revisions() == list(range(start, 7))
    assert other.revisions() == [2, 3, 4, 5, 6]
    client.read()
    world.put(b"k")
    assert client.revisions() == list(range(start, 8))
    assert not any(response.canceled for response in client.told)


def test_watchers_of_a_future_that_never_comes_leave_nothing_behind() -> None:
    world = World()
    kept = world.client()
    kept.watch(b"k", start_revision=3)
    for _ in range(1000):
        client = world.client()
        client.watch(b"k", start_revision=(1 << 63) - 1)
        client.session.close()
    gc.collect()
    assert sum(isinstance(thing, Watcher) for thing in gc.get_objects()) < 10
    world.apply(put(b"k"), put(b"k"))
    assert kept.revisions() == [3]


def test_a_revision_is_never_split_and_a_turn_is_joined_up_to_a_limit() -> None:
    world = World()
    client = world.client(room_bytes=1 << 30)
    client.watch(b"", b"\0")
    value = bytes(100_000)
    world.apply(*(txn(put(b"a", value), put(b"b", value)) for _ in range(4)))
    told = [[event.kv.mod_revision for event in r.events] for r in client.told if r.events]
    assert told == [[2, 2, 3, 3], [4, 4, 5, 5]]
    assert [r.header.revision for r in client.told if r.events] == [3, 5]


def test_with_fragment_large_responses_are_split_and_all_but_the_last_say_so() -> None:
    world = World()
    client = world.client()
    client.watch(b"", b"\0", fragment=True)
    client.watch(b"", b"\0", start_revision=2, fragment=True)
    client.watch(b"", b"\0")
    world.apply(txn(*(put(b"%d" % number, bytes(1500)) for number in range(5))))
    for watch_id in (0, 1):
        told = [r for r in client.told if r.watch_id == watch_id and r.events]
        assert [(len(r.events), r.fragment) for r in told] == [(2, True), (2, True), (1, False)]
    assert [len(r.events) for r in client.told if r.watch_id == 2 and r.events] == [5]


def test_prev_kv_is_the_pair_before_the_revision_live_and_from_the_store_alike() -> None:
    """etcd #17247: of a key that changes twice in a transaction too, and each event once."""
    world = World()
    client = world.client()
    client.watch(b"", b"\0", prev_kv=True)
    world.put(b"a", b"old")
    world.apply(
        txn(delete(b"a"), delete(b"a", b"\0")), txn(put(b"a", b"x")), put(b"a", b"y"), delete(b"a")
    )
    world.apply(put(b"b", b"1"), txn(delete(b"b", b"c"), put(b"c")))
    client.watch(b"", b"\0", prev_kv=True, start_revision=1)
    live = client.events(0)
    assert live == client.events(1)
    assert [(e.kv.mod_revision, e.prev_kv.value) for e in live] == [
        (2, b""),
        (3, b"old"),
        (4, b""),
        (5, b"x"),
        (6, b"y"),
        (7, b""),
        (8, b"1"),
        (8, b""),
    ]


def test_many_watchers_of_one_key_share_a_group_and_are_all_told() -> None:
    world = World()
    client = world.client(room_bytes=1 << 30)
    for _ in range(50):
        client.watch(b"k")
    world.put(b"k", b"1")
    for watch_id in range(0, 50, 2):
        client.cancel(watch_id)
    world.put(b"k", b"2")
    assert [len(client.events(watch_id)) for watch_id in range(50)] == [1, 2] * 25


def test_keyspaces_do_not_hear_each_other() -> None:
    world = World()
    mine, other = world.client(), world.client(keyspace=7)
    for client in (mine, other):
        client.watch(b"", b"\0")
    world.put(b"k", b"0")
    world.put(b"k", b"7", keyspace=7)
    late = world.client(keyspace=7)
    late.watch(b"", b"\0", start_revision=1)
    assert (mine.short(), other.short()) == (["2 k=0"], ["3 k=7"])
    assert late.short() == ["3 k=7"]


def test_closing_a_stream_forgets_all_its_watchers_wherever_they_are() -> None:
    world = World(sliced=True)
    for _ in range(10):
        world.put(b"k")
    client = world.client()
    client.watch(b"k")
    client.watch(b"k", start_revision=2)
    client.watch(b"k", start_revision=99)
    client.watch(b"k", b"z", send_initial=True)
    client.session.close()
    world.settle()
    told = len(client.told)
    world.put(b"k")
    world.settle()
    statistics = world.hub.statistics()
    assert (statistics.streams, statistics.watchers, len(client.told)) == (0, 0, told)


def test_several_ranges_in_one_watch_tell_each_event_once() -> None:
    world = World()
    client = world.client()
    ranges = [{"key": b"a", "range_end": b"c"}, {"key": b"b", "range_end": b"d"}, {"key": b"x"}]
    client.watch(b"b", ranges=ranges)
    world.apply(put(b"a"), put(b"b"), put(b"d"), put(b"x"), put(b"y"))
    client.watch(b"b", ranges=ranges, start_revision=1)
    assert client.short(0) == client.short(1) == ["2 a=", "3 b=", "5 x="]


@pytest.mark.parametrize("range_end", [b"", b"d"])
@pytest.mark.parametrize("room_bytes", [1 << 20, 500])
def test_watchers_that_differ_but_have_a_key_in_common_are_each_told_once(
    range_end: bytes, room_bytes: int
) -> None:
    world = World()
    client = world.client(room_bytes)
    count = 60
    for number in range(count):
        client.watch(b"c", range_end, ranges=[{"key": b"%03d" % number}])
    for number in range(0, count, 3):
        client.cancel(number)
    for number in range(count):
        world.apply(put(b"c", b"%d" % number), put(b"%03d" % number))
        if number % 7 == 0:
            client.read()
            world.settle()
    while client.unread:
        client.read()
        world.settle()
    for number in range(count):
        told = [] if number % 3 == 0 else sorted([*range(2, 2 + 2 * count, 2), 3 + 2 * number])
        assert [int(line.split()[0]) for line in client.short(number)] == told
    client.session.close()
    assert world.hub.statistics().watchers == 0


def test_of_many_groups_at_a_key_few_are_looked_through_for_the_like_of_one() -> None:
    """Each stream that is too slow joins its groups again and again: all of them is too many."""
    cohort = Cohort(0, 1)
    stream = WatchStream(None)
    for number in range(1000):
        own = b"b%03d" % number
        for at, spans in enumerate(((b"a", own), (own, (b"c", b"d")), (b"a", own))):
            cohort.join(Watcher(stream, 3 * number + at, spans, 0, 1))
    assert cohort.size == 2000
    assert len(cohort._likes((b"a", b"b500"))) == len(cohort._likes((b"b500", (b"c", b"d")))) == 2


def test_keys_only_events_have_no_values_and_reasons_come_only_where_asked_for() -> None:
    world = World()
    client = world.client()
    client.watch(b"k", keys_only=True, prev_kv=True)
    world.apply(put(b"k", b"1"), put(b"k", b"2"))
    assert [(e.kv.value, e.prev_kv.value) for e in client.events()] == [(b"", b"")] * 2
    assert [e.kv.version for e in client.events()] == [1, 2]


def test_a_delete_says_why_where_asked_for_and_one_entry_may_be_many_revisions() -> None:
    world = World()
    client = world.client()
    client.watch(b"k", b"l", reasons=True, prev_kv=True)
    client.watch(b"k1")
    grants = [LeaseGrant(id=lease, ttl_ms=1000).SerializeToString() for lease in (1, 2, 3)]
    world.apply(*((CommandKind.LEASE_GRANT, grant) for grant in grants))
    for lease in (1, 2, 3):
        for key in (b"k%d" % lease, b"k%d+" % lease):
            request = kv_pb2.PutRequest(key=key, value=b"v", lease=lease)
            world.apply((CommandKind.PUT, request.SerializeToString()))  # 2 to 7
    world.clock_ms = 5000
    world.apply(
        (CommandKind.LEASE_EXPIRE, LeaseExpire(ids=[1, 2]).SerializeToString()),
        (CommandKind.LEASE_REVOKE, LeaseRevokeRequest(ID=3).SerializeToString()),
        delete(b"x"),
    )
    reason = kv_pb2.Event.Reason
    client.watch(b"k", b"l", reasons=True, prev_kv=True, start_revision=1)
    assert client.events(0) == client.events(2)
    assert [(e.kv.mod_revision, reason.Name(e.reason), e.prev_kv.value) for e in client.events(0)][
        6:
    ] == [
        *[(8, "LEASE_EXPIRED", b"v")] * 2,
        *[(9, "LEASE_EXPIRED", b"v")] * 2,
        *[(10, "LEASE_REVOKED", b"v")] * 2,
    ]
    assert [reason.Name(e.reason) for e in client.events(1)] == ["REQUEST"] * 2


def test_a_giant_delete_between_others_is_told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 10)
    world = World()
    client = world.client()
    client.watch(b"", b"\0", prev_kv=True)
    world.apply(*(put(b"k%02d" % number) for number in range(30)))
    world.apply(put(b"x"), delete(b"k", b"l"), put(b"y"))
    mains = [event.kv.mod_revision for event in client.events()][30:]
    assert mains == [32, *[33] * 30, 34]
