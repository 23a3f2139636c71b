"""Requests and answers, in etcd's words."""

from __future__ import annotations

import pytest

from chainfire.proto.watch_pb2 import WatchRequest
from chainfire.watch import session
from tests.watch.world import World, permit_only


def test_ids_are_counted_up_and_none_is_given_twice() -> None:
    world = World()
    client = world.client()
    given = [client.watch(b"k").watch_id for _ in range(2)]
    given.append(client.watch(b"k", watch_id=2).watch_id)
    client.cancel(0)
    given += [client.watch(b"k").watch_id for _ in range(2)]
    assert given == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("watch_id", [5, -1, -7, 2**62])
def test_a_chosen_id_is_kept_and_refused_the_second_time(watch_id: int) -> None:
    client = World().client()
    assert client.watch(b"k", watch_id=watch_id).watch_id == watch_id
    refused = client.watch(b"k", watch_id=watch_id)
    assert (refused.watch_id, refused.created, refused.canceled) == (-1, True, True)
    assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    client.cancel(watch_id)
    assert client.told[-1].canceled
    assert not client.watch(b"k", watch_id=watch_id).canceled


@pytest.mark.parametrize(("key", "range_end"), [(b"b", b"a"), (b"b", b"b")])
def test_an_empty_range_is_refused(key: bytes, range_end: bytes) -> None:
    refused = World().client().watch(key, range_end)
    assert (refused.watch_id, refused.created, refused.canceled) == (-1, True, True)
    assert refused.cancel_reason == "mvcc: watcher range is empty"


def test_a_negative_start_is_refused_as_compacted() -> None:
    refused = World().client().watch(b"k", start_revision=-1)
    assert (refused.watch_id, refused.canceled) == (-1, True)
    assert refused.cancel_reason == "mvcc: required revision has been compacted"


def test_an_empty_key_means_the_first_possible_one() -> None:
    world = World()
    client = world.client()
    client.watch(b"")
    client.watch(b"", b"\0")
    world.put(b"\0")
    world.put(b"a")
    assert [len(client.events(watch_id)) for watch_id in (0, 1)] == [1, 2]


def test_cancelling_an_unknown_id_and_an_empty_request_are_not_answered() -> None:
    client = World().client()
    client.watch(b"k")
    client.cancel(99)
    client.session.request(WatchRequest())
    assert len(client.told) == 1


def test_created_names_the_revision_and_precedes_what_is_told() -> None:
    world = World()
    world.put(b"k")
    client = world.client()
    client.watch(b"k", start_revision=1)
    assert [(r.created, len(r.events), r.header.revision) for r in client.told] == [
        (True, 0, 2),
        (False, 1, 2),
    ]


def test_too_many_ranges_and_an_initial_state_of_the_past_are_refused() -> None:
    client = World().client()
    refused = client.watch(b"k", ranges=[{"key": b"x"}] * session.RANGES_MAX)
    assert refused.cancel_reason == session.TOO_MANY_RANGES
    refused = client.watch(b"k", send_initial=True, start_revision=1)
    assert refused.cancel_reason == session.INITIAL_IN_THE_PAST


def test_permission_is_asked_when_a_watch_begins_and_again_when_rights_change() -> None:
    world = World()
    allowed = [b"a", b"b"]
    client = world.client(permit=permit_only(allowed))
    client.watch(b"a")
    client.watch(b"b")
    refused = client.watch(b"c")
    assert (refused.watch_id, refused.cancel_reason) == (-1, "permission denied")
    allowed.remove(b"a")
    for _ in world.hub.check_permits_steps():
        pass
    end = client.told[-1]
    assert (end.watch_id, end.canceled, end.cancel_reason) == (0, True, "permission denied")
    world.put(b"a")
    world.put(b"b")
    assert client.short(0) == []
    assert client.short(1) == ["3 b="]
