"""What must hold after a restart, checked against the history that the load wrote down.

A list of sentences comes back; empty means that nothing was lost, undone, halved or repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from chainfire.proto import kv_pb2, maintenance_pb2
from tests.crash.load import GROUPS, TOKENS, History, Kv, Write, group_keys, token_keys

READS_AT_ONCE = 50
EVERYTHING = {"key": b"\x00", "range_end": b"\x00"}


@dataclass(frozen=True, slots=True)
class Found:
    """The store after a restart."""

    revision: int
    compacted: int
    hash: int


async def check(target: str, history: History, rng: random.Random) -> tuple[Found, list[str]]:
    """Read everything that the history knows of, settle what was unknown, and say what is wrong."""
    async with grpc.aio.insecure_channel(target) as channel:
        kv = Kv(channel)
        now = await kv.range(kv_pb2.RangeRequest(**EVERYTHING))
        found = await _found(channel)
        rows = {row.key: row for row in now.kvs}
        wrong = list(revision_never_back(now.header.revision, history))
        if found.compacted < history.compacted:
            wrong.append(f"compacted to {found.compacted}, {history.compacted} was acknowledged")
        for key, writes in history.writes.items():
            wrong += newest_write_is_there(key, writes, rows.get(key))
        wrong += counters_count(history, rows)
        wrong += rules_hold("now", now.kvs)
        wrong += await _acknowledged_writes(kv, history, max(found.compacted, 1))
        oldest = max(found.compacted, 1)
        for revision in {rng.randint(oldest, found.revision) for _ in range(8)}:
            past = await kv.range(kv_pb2.RangeRequest(**EVERYTHING, revision=revision))
            wrong += rules_hold(f"at revision {revision}", past.kvs)
    history.seen_revision = max(history.seen_revision, found.revision)
    history.compacted = found.compacted
    settle(history, rows)
    return found, wrong


async def _found(channel: grpc.aio.Channel) -> Found:
    call = channel.unary_unary("/etcdserverpb.Maintenance/HashKV")
    raw = await call(maintenance_pb2.HashKVRequest().SerializeToString(), timeout=30)
    reply = maintenance_pb2.HashKVResponse.FromString(raw)
    return Found(reply.header.revision, max(reply.compact_revision, 0), reply.hash)


def revision_never_back(revision: int, history: History) -> Iterator[str]:
    if revision < history.seen_revision:
        yield f"revision {revision} after the restart, {history.seen_revision} was answered before"


def newest_write_is_there(key: bytes, writes: list[Write], row: Any) -> Iterator[str]:
    """The newest acknowledged write of a key, or one without an answer that came after it."""
    known = [w for w in writes if w.revision is not None]
    newest = max(known, key=lambda w: w.revision or 0, default=None)
    unknown = {w.value for w in writes if w.revision is None}
    if row is None:
        if newest is not None and newest.value is not None and None not in unknown:
            yield f"{key!r} is gone, {newest} was acknowledged"
        return
    if newest is not None and row.mod_revision == newest.revision:
        if row.value != newest.value:
            yield f"{key!r} holds {row.value!r}, {newest} was acknowledged"
    elif newest is not None and row.mod_revision < (newest.revision or 0):
        yield f"{key!r} is of revision {row.mod_revision}, {newest} was acknowledged"
    elif row.value not in unknown:
        yield f"{key!r} holds {row.value!r} of {row.mod_revision}, which nobody wrote there then"


def counters_count(history: History, rows: dict[bytes, Any]) -> Iterator[str]:
    """A counter's version counts its puts: none was lost and none applied twice."""
    for key, sent in history.counters.items():
        writes = history.writes.get(key, [])
        known = sum(w.revision is not None for w in writes)
        version = rows[key].version if key in rows else 0
        if not known <= version <= sent:
            yield f"{key!r} has version {version}, {known} of {sent} puts were acknowledged"


def rules_hold(when: str, kvs: Iterable[Any]) -> Iterator[str]:
    """Groups agree and of each token exactly one exists (or the txn was never run)."""
    rows = {row.key: row for row in kvs}
    for number in range(GROUPS):
        group = [rows.get(key) for key in group_keys(number)]
        states = {(row.value, row.mod_revision) if row is not None else None for row in group}
        if len(states) != 1:
            yield f"{when}: group {number} is torn: {states}"
    for number in range(TOKENS):
        if sum(key in rows for key in token_keys(number)) > 1:
            yield f"{when}: both keys of token {number} exist"


async def _acknowledged_writes(kv: Kv, history: History, oldest: int) -> list[str]:
    """Every acknowledged write that is not compacted, read at its own revision."""
    wrong: list[str] = []
    gate = asyncio.Semaphore(READS_AT_ONCE)

    async def look(write: Write) -> None:
        async with gate:
            request = kv_pb2.RangeRequest(key=write.key, revision=write.revision)
            try:
                reply = await kv.range(request)
            except grpc.aio.AioRpcError as error:
                wrong.append(f"{write}: {error.code().name} {error.details()}")
                return
        there = [(row.value, row.mod_revision) for row in reply.kvs]
        if write.value is None:
            if there:
                wrong.append(f"{write}: found {there}")
        elif there != [(write.value, write.revision)]:
            wrong.append(f"{write}: found {there}")

    looks = [
        look(write)
        for writes in history.writes.values()
        for write in writes
        if write.revision is not None and write.revision >= oldest
    ]
    await asyncio.gather(*looks)
    return wrong


def settle(history: History, rows: dict[bytes, Any]) -> None:
    """From here on nothing is unknown: keep one write per key, the one that is there."""
    for key in history.counters:
        history.counters[key] = rows[key].version if key in rows else 0
    for key, writes in history.writes.items():
        row = rows.get(key)
        known = [w for w in writes if w.revision is not None]
        newest = max(known, key=lambda w: w.revision or 0, default=None)
        if row is not None:
            kept = [Write(key, row.value, row.mod_revision)]
        elif newest is not None and newest.value is None:
            kept = [newest]
        else:  # deleted without an answer, at a revision that nobody knows
            kept = []
        if key in history.counters:  # its writes count; they stay
            kept = [Write(key, row.value, row.mod_revision)] * row.version if row else []
        history.writes[key] = kept
