"""The guarantees of a watch: ordered, each event once, revisions whole, nothing lost on the way
between live and behind, progress only of what was told, and word of compactions.
"""

from __future__ import annotations

import gc

import pytest

from chainfire.command import CommandKind
from chainfire.machine import giant
from chainfire.proto import kv_pb2
from chainfire.proto.command_pb2 import LeaseExpire, LeaseGrant
from chainfire.proto.lease_pb2 import LeaseRevokeRequest
from chainfire.proto.watch_pb2 import WatchCreateRequest
from chainfire.watch import hub
from chainfire.watch.groups import Cohort, Watcher, WatchStream
from tests.watch.world import Client, World, delete, put, txn


def revisions(client: Client, watch_id: int = 0) -> list[int]:
    return [event.kv.mod_revision for event in client.events(watch_id)]


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


@pytest.mark.parametrize("start", [1, 2, 3, 5, 6])
def test_a_past_start_is_told_from_the_store_then_live_without_gap_or_repeat(start: int) -> None:
    world = World()
    for number in range(4):
        world.put(b"k", b"%d" % number)  # 2 to 5
    client = world.client()
    client.watch(b"k", start_revision=start)
    world.put(b"k", b"live")
    assert revisions(client) == list(range(max(start, 2), 7))


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
    assert revisions(client) == [2, last - 1, last]
    assert walks == []


def test_a_future_start_hears_nothing_older_even_within_one_turn() -> None:
    """etcd #20221."""
    world = World()
    client = world.client()
    client.watch(b"k", start_revision=4, progress_notify=True)
    assert client.progress() is None  # its start is not reached
    world.put(b"k")  # 2
    assert [r for r in client.told if not r.created] == []
    world.apply(put(b"k"), put(b"k"), put(b"k"), put(b"k"))  # 3 to 6
    assert revisions(client) == [4, 5, 6]
    world.put(b"k")
    assert revisions(client) == [4, 5, 6, 7]
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
    assert revisions(client) == list(range(start, 7))
    assert revisions(other) == [2, 3, 4, 5, 6]
    client.read()
    world.put(b"k")
    assert revisions(client) == list(range(start, 8))
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
    assert revisions(kept) == [3]


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


def test_a_slow_client_is_told_nothing_until_it_reads_and_then_everything_once() -> None:
    world = World()
    slow, quick = world.client(room_bytes=400), world.client()
    for client in (slow, quick):
        client.watch(b"k")
        client.watch(b"a", b"z")
        client.watch(b"other")
    for number in range(20):
        world.put(b"k", bytes(50) + b"%d" % number)
    assert revisions(quick) == list(range(2, 22))
    assert len(revisions(slow)) < 10, "its buffer is bounded"
    assert world.hub.statistics().slow_watchers == 3
    assert slow.progress() is None
    while slow.room <= 0:
        slow.read()
    world.put(b"other")
    while slow.room <= 0:
        slow.read()
    for watch_id in (0, 1):
        assert revisions(slow, watch_id) == revisions(quick, watch_id)
    assert slow.short(2) == ["22 other="]
    assert slow.progress() == 22
    assert world.hub.statistics().slow_watchers == 0


def test_a_compaction_that_overtakes_a_slow_client_is_told_and_its_watchers_end() -> None:
    world = World()
    slow = world.client(room_bytes=300)
    slow.watch(b"k")
    for _ in range(10):
        world.put(b"k", bytes(100))
    told = len(revisions(slow))
    world.compact(10)
    assert len(slow.told) == 1 + told
    slow.read()
    end = slow.told[-1]
    assert (end.canceled, end.compact_revision, end.cancel_reason) == (True, 10, "")
    assert revisions(slow) == list(range(2, 2 + told))
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
    assert revisions(client, 1) == list(range(2, 502))
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
    assert all(revisions(client, n) == list(range(n + 2, 42)) for n in range(40))
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


# ── beyond etcd ─────────────────────────────────────────────────────────────


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


def test_a_giant_delete_between_others_is_told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 10)
    world = World()
    client = world.client()
    client.watch(b"", b"\0", prev_kv=True)
    world.apply(*(put(b"k%02d" % number) for number in range(30)))
    world.apply(put(b"x"), delete(b"k", b"l"), put(b"y"))
    mains = [event.kv.mod_revision for event in client.events()][30:]
    assert mains == [32, *[33] * 30, 34]
