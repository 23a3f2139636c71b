"""RangeStream: chunks that together are the unary answer."""

from __future__ import annotations

from typing import Any

import pytest

from chainfire.errors import Compacted
from chainfire.mvcc.stream import FIRST_CHUNK_ROWS, stream_steps
from chainfire.proto.kv_pb2 import RangeRequest
from chainfire.types import RangeResult
from tests.mvcc.world import World


@pytest.fixture
def world() -> World:
    world = World()
    for number in range(200):
        world.put(b"%03d" % number, bytes(50))
    return world


def chunks_of(steps: Any) -> tuple[list[list[bytes]], RangeResult]:
    chunks = []
    while True:
        try:
            chunk = next(steps)
        except StopIteration as stop:
            return chunks, stop.value
        if chunk is not None:
            chunks.append(chunk)


def stream(world: World, chunk_bytes: int = 1 << 20, **fields: Any) -> Any:
    request = RangeRequest(key=b"\0", range_end=b"\0", **fields)
    return stream_steps(world.backend, world.store, 0, request, chunk_bytes=chunk_bytes)


def test_chunks_begin_small_and_double(world: World) -> None:
    chunks, last = chunks_of(stream(world))
    assert [len(chunk) for chunk in chunks] == [10, 20, 40, 80]
    assert (len(last.rows), last.count, last.more) == (50, 200, False)
    assert FIRST_CHUNK_ROWS == 10


def test_chunks_stay_near_the_size_asked_for(world: World) -> None:
    chunks, _ = chunks_of(stream(world, chunk_bytes=2000))
    sizes = [sum(map(len, chunk)) for chunk in chunks]
    assert max(sizes) <= 2000
    assert min(sizes[2:]) >= 800


def test_rows_larger_than_the_size_come_one_by_one() -> None:
    world = World()
    for number in range(40):
        world.put(b"%03d" % number, bytes(500))
    chunks, last = chunks_of(stream(world, chunk_bytes=100))
    assert [len(chunk) for chunk in chunks[:4]] == [10, 5, 2, 1]
    assert sum(map(len, chunks)) + len(last.rows) == 40


@pytest.mark.parametrize("limit", [0, 1, 9, 10, 11, 150, 199, 200, 201])
def test_a_limit_cuts_the_whole(world: World, limit: int) -> None:
    chunks, last = chunks_of(stream(world, limit=limit, keys_only=True))
    unary = world.range(b"\0", b"\0", limit=limit, keys_only=True)
    assert [row for chunk in chunks for row in chunk] + list(last.rows) == list(unary.rows)
    assert (last.revision, last.count, last.more) == (unary.revision, unary.count, unary.more)


def test_the_revision_is_that_of_the_first_chunk(world: World) -> None:
    unary = world.range(b"\0", b"\0")
    steps = stream(world)
    first = next(steps)
    world.delete(b"\0", b"\0")
    world.put(b"new")
    chunks, last = chunks_of(steps)
    assert first + [row for chunk in chunks for row in chunk] + list(last.rows) == unary.rows
    assert (last.revision, last.count) == (unary.revision, unary.count)


def test_a_compaction_that_overtakes_a_stream_ends_it(world: World) -> None:
    steps = stream(world)
    next(steps)
    world.put(b"new")
    world.compact(world.store.revision)
    with pytest.raises(Compacted):
        chunks_of(steps)
