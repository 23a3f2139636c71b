"""Watches of the client: pure judgement of answers, and real servers that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire import errors
from chainfire.client import Change, ServerFault, WatchCompacted, connect, connect_sync
from chainfire.client.calls import watch_request
from chainfire.client.watching import Place
from chainfire.proto.watch_pb2 import WatchRequest, WatchResponse
from tests.peers import need_chainfire
from tests.servers import Server


def place(start: int = 0) -> Place:
    return Place(watch_request("k", start_revision=start))


def start_of(place: Place) -> int:
    return WatchRequest.FromString(place.request()).create_request.start_revision


def response(revision: int, *mains: int, **fields: object) -> WatchResponse:
    events = [{"kv": {"key": b"k", "mod_revision": main}} for main in mains]
    return WatchResponse(header={"revision": revision}, events=events, **fields)  # type: ignore[arg-type]


def test_from_now_on_means_from_the_first_answer_on() -> None:
    watched = place()
    assert start_of(watched) == 0
    assert watched.take(response(7, created=True)) is None
    assert start_of(watched) == 8
    watched.take(response(12, created=True))  # of the stream that replaced the first one
    assert start_of(watched) == 8


def test_it_goes_on_behind_what_was_told_not_behind_the_header() -> None:
    watched = place(3)
    changes = watched.take(response(90, 5, 5, 6))  # etcd's header names the newest revision
    assert changes is not None
    assert [change.kv.mod_revision for change in changes.changes] == [5, 5, 6]
    assert start_of(watched) == 7
    watched.take(response(40))  # progress
    assert start_of(watched) == 41


def test_fragments_are_put_together_and_forgotten_if_the_stream_breaks_between_them() -> None:
    watched = place(3)
    assert watched.take(response(5, 5, fragment=True)) is None
    assert start_of(watched) == 3
    assert watched.take(response(5, 5, fragment=True)) is None
    changes = watched.take(response(5, 5))
    assert changes is not None
    assert len(changes.changes) == 2
    assert start_of(watched) == 6


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"compact_revision": 9}, WatchCompacted),
        ({"cancel_reason": "mvcc: required revision has been compacted"}, WatchCompacted),
        (
            {
                "cancel_reason": "rpc error: code = PermissionDenied desc = "
                "etcdserver: permission denied"
            },
            errors.PermissionDenied,
        ),
        ({"cancel_reason": "mvcc: watcher range is empty"}, ServerFault),
    ],
)
def test_a_refusal_is_the_error_that_its_reason_names(
    fields: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        place().take(response(9, canceled=True, **fields))


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Server]:
    with Server(need_chainfire(), tmp_path / "data") as made:
        yield made


@pytest.fixture(params=["member", "etcd"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def test_both_faces_tell_what_changes_in_order(server: Server) -> None:
    with connect_sync(server.url) as client:
        first = client.put("w/a", "1").revision
        with client.watch_prefix("w/", start_revision=first, previous=True) as watch:
            client.put("w/a", "2")
            client.delete("w/a")
            told: list[Change] = []
            while len(told) < 3:
                told += next(watch).changes
        assert [(change.is_delete, change.kv.value) for change in told] == [
            (False, b"1"),
            (False, b"2"),
            (True, b""),
        ]
        assert [change.previous.text() if change.previous else None for change in told] == [
            None,
            "1",
            "2",
        ]


def test_a_watch_goes_on_over_a_restart_of_its_server(member: Server) -> None:
    async def scene() -> list[bytes]:
        seen: list[bytes] = []
        async with connect(member.url, timeout=20) as client:
            start = (await client.put("k", "0")).revision + 1

            async def read() -> None:
                async with client.watch("k", start_revision=start) as watch:
                    async for changes in watch:
                        seen.extend(change.kv.value for change in changes.changes)
                        if len(seen) == 6:
                            return

            reading = asyncio.create_task(read())
            for number in (b"1", b"2", b"3"):
                await client.put("k", number)
            await asyncio.to_thread(member.kill)
            await asyncio.to_thread(member.start)
            for number in (b"4", b"5", b"6"):
                await client.put("k", number)
            async with asyncio.timeout(20):
                await reading
        return seen

    assert asyncio.run(scene()) == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_history_that_is_compacted_and_an_empty_range_are_told(server: Server) -> None:
    with connect_sync(server.url) as client:
        revision = [client.put("c", "x").revision for _ in range(3)][-1]
        client.compact(revision)
        with (
            client.watch("c", start_revision=revision - 1) as watch,
            pytest.raises(WatchCompacted) as caught,
        ):
            next(watch)
        assert caught.value.compact_revision == revision
