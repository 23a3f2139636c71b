"""The Maintenance service, answered as a single etcd member would.

Departures from etcd, for the better: Alarm GET reads instead of writing to the
log, Defragment answers at once after nudging the engine, and Hash is the end
of the hash chain, so that it costs nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from time import perf_counter
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from chainfire.api.call import Call, Stream
from chainfire.api.services import Services
from chainfire.command import CommandKind, decode_request
from chainfire.errors import (
    BadLeaderTransferee,
    ClusterVersionUnavailable,
    Corrupt,
    InvalidArgument,
    InvalidDowngradeTargetVersion,
    Malformed,
    NoInflightDowngrade,
    NoLeader,
    NotLeader,
    RequestTooLarge,
    StateDamaged,
    Unimplemented,
    UnknownMethod,
    WrongDowngradeVersionFormat,
)
from chainfire.mvcc.hash import HashResult, hash_kv
from chainfire.node.status import Times
from chainfire.proto.kv_pb2 import LINEARIZABLE, SERIALIZABLE
from chainfire.proto.maintenance_pb2 import (
    NONE,
    AlarmMember,
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    DefragmentRequest,
    DowngradeInfo,
    DowngradeRequest,
    DowngradeResponse,
    HashKVRequest,
    HashKVResponse,
    HashRequest,
    HashResponse,
    MoveLeaderRequest,
    SnapshotResponse,
    StatusRequest,
    StatusResponse,
)
from chainfire.types import Alarm, AlarmResult, Result
from chainfire.version import API_VERSION, STORAGE_VERSION

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")
_ALARM = int(CommandKind.ALARM)
LAST_WORD_SECONDS: Final = 0.1  # for an error to leave before its cause stops the member


def decode(request_type: type[_M], body: bytes) -> _M:
    """A request that stays out of the log. Raises Malformed."""
    try:
        return request_type.FromString(body)
    except DecodeError as exc:
        raise Malformed.of(exc) from exc


# ── Status ──────────────────────────────────────────────────────────────────


def status(services: Services, call: Call) -> None:
    """Of this member alone, as it is now. Sizes are bytes."""
    decode(StatusRequest, call.request)
    node, machine = services.node, services.node.machine
    now = node.overview.status()
    in_use = machine.usage(0)
    reply = StatusResponse(
        version=API_VERSION,
        dbSize=max(node.backend.statistics().disk_bytes, in_use, 1),  # etcdctl divides by it
        dbSizeInUse=in_use,
        dbSizeQuota=max(services.limits.quota_bytes, 0),
        leader=now.leader_id,
        raftIndex=now.commit_index,
        raftTerm=now.term,
        raftAppliedIndex=now.applied_index,
        isLearner=now.is_learner,
        storageVersion=STORAGE_VERSION,
        downgradeInfo=DowngradeInfo(),
        errors=[] if now.leader_id else [NoLeader.text],
    )
    reply.errors.extend(map(_alarm_text, machine.alarms))
    call.reply(services.header(machine.revision) + reply.SerializeToString())


def _alarm_text(alarm: Alarm) -> str:
    """As etcd prints an AlarmMember; the blank at the end is etcd's."""
    return f"memberID:{alarm.member_id} alarm:{alarm_name(alarm.type)} "


def alarm_name(number: int) -> str:
    known = AlarmType.values()
    return AlarmType.Name(AlarmType.ValueType(number)) if number in known else str(number)


# ── Alarm ───────────────────────────────────────────────────────────────────


def alarm(services: Services, call: Call) -> None:
    """Those that are on, or those that were raised or taken back. Refused with InvalidArgument."""
    request: AlarmRequest = decode_request(_ALARM, call.request)
    if request.action == AlarmRequest.GET:
        call.message = request
        call.resume = _alarms_ready
        services.node.read(LINEARIZABLE, 0, call.deadline, call)
    elif request.action in (AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE):
        if len(call.request) > services.limits.max_request_bytes:
            raise RequestTooLarge
        call.then = _alarm_done
        services.node.propose(_ALARM, call.request, call)
    else:
        raise InvalidArgument(f"chainfire: unknown alarm action {request.action}")


def _alarms_ready(call: Call) -> None:
    machine, wanted = call.services.node.machine, call.message.alarm
    alarms = [alarm for alarm in machine.alarms if wanted in (NONE, alarm.type)]
    _alarm_done(call, AlarmResult(machine.revision, alarms))


def _alarm_done(call: Call, result: AlarmResult) -> None:
    alarms: list[Any] = [
        AlarmMember(memberID=alarm.member_id, alarm=alarm.type)  # type: ignore[arg-type]
        for alarm in result.alarms
    ]
    reply = AlarmResponse(alarms=alarms)
    call.reply(call.services.header(result.revision) + reply.SerializeToString())


# ── Defragment, Hash, HashKV ────────────────────────────────────────────────


def defragment(services: Services, call: Call) -> None:
    """The engine is asked to give space back, which it does when it likes."""
    decode(DefragmentRequest, call.request)
    services.node.nudge_compaction()
    call.reply(b"")


def hash_(services: Services, call: Call) -> None:
    """The low 32 bits of the hash chain's end."""
    decode(HashRequest, call.request)
    call.resume = _hash_ready
    services.node.read(SERIALIZABLE, 0, call.deadline, call)


def _hash_ready(call: Call) -> None:
    machine, began = call.services.node.machine, perf_counter()
    reply = HashResponse(hash=machine.hash & 0xFFFFFFFF)
    call.services.counters.hashes.observe(perf_counter() - began)
    call.reply(call.services.header(machine.revision) + reply.SerializeToString())


def hash_kv_(services: Services, call: Call) -> None:
    """Of keys and history at a revision, 0 = now. Refused with Compacted, FutureRevision."""
    call.message = decode(HashKVRequest, call.request)
    call.resume = _hash_kv_ready
    # Not LOCAL: a put may be answered before it is applied, and who made it asks next.
    services.node.read(SERIALIZABLE, 0, call.deadline, call)


def _hash_kv_ready(call: Call) -> None:
    node, revision = call.services.node, call.message.revision
    call.message = node.machine.revision
    call.then = _hash_kv_done
    steps = hash_kv(node.store.view, node.store, 0, revision)
    call.run_steps(_timed(steps, call.services.counters.hashes_of_revisions))


def _timed(steps: Generator[None, None, _T], times: Times) -> Generator[None, None, _T]:
    began = perf_counter()
    result = yield from steps
    times.observe(perf_counter() - began)
    return result


def _hash_kv_done(call: Call, result: HashResult) -> None:
    reply = HashKVResponse(
        hash=result.hash,
        compact_revision=result.compact_revision,
        hash_revision=result.hash_revision,
    )
    call.reply(call.services.header(call.message) + reply.SerializeToString())


# ── Snapshot ────────────────────────────────────────────────────────────────


async def snapshot(services: Services, stream: Stream) -> None:
    """The state as an archive (docs/formats.md); the last blob is the SHA-256 of the others."""
    try:
        async with services.node.archive() as archive:
            left = archive.total_bytes
            async for piece in archive.pieces():
                left -= len(piece)
                reply = SnapshotResponse(remaining_bytes=left, blob=piece, version=STORAGE_VERSION)
                await stream.send(reply.SerializeToString())
    except Corrupt as exc:
        loop = asyncio.get_running_loop()
        loop.call_later(LAST_WORD_SECONDS, services.node.halt, exc)
        raise StateDamaged from exc


# ── MoveLeader, Downgrade ───────────────────────────────────────────────────


def move_leader(services: Services, call: Call) -> None:
    """Answered when the other one leads; no header, as etcd.

    Raises NotLeader, BadLeaderTransferee.
    """
    target_id = decode(MoveLeaderRequest, call.request).targetID
    node = services.node
    if node.leader_id != node.member_id:
        raise NotLeader
    member = node.machine.members.get(target_id)
    if member is None or member.isLearner:
        raise BadLeaderTransferee
    call.then = _leader_moved
    node.move_leader(target_id, call)


def _leader_moved(call: Call, _: Result) -> None:
    call.reply(b"")


def downgrade(services: Services, call: Call) -> None:
    """ENABLE is Unimplemented: no earlier version reads this member's data. Else as in etcd."""
    call.message = decode(DowngradeRequest, call.request)
    if call.message.action not in DowngradeRequest.DowngradeAction.values():
        raise UnknownMethod
    if call.message.action != DowngradeRequest.CANCEL:
        _major_minor(call.message.version)
    call.resume = _downgrade_ready
    services.node.read(LINEARIZABLE, 0, call.deadline, call)


def _downgrade_ready(call: Call) -> None:
    request, machine = call.message, call.services.node.machine
    if request.action == DowngradeRequest.CANCEL:
        raise NoInflightDowngrade
    if not machine.cluster_version:
        raise ClusterVersionUnavailable
    major, minor = _major_minor(machine.cluster_version)
    if _major_minor(request.version) != (major, minor - 1):
        raise InvalidDowngradeTargetVersion
    if request.action == DowngradeRequest.ENABLE:
        raise Unimplemented(
            f"chainfire: cannot downgrade to {request.version}: "
            "no earlier version reads this member's data"
        )
    reply = DowngradeResponse(version=machine.cluster_version)
    call.reply(call.services.header(machine.revision) + reply.SerializeToString())


_VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+)?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def _major_minor(version: str) -> tuple[int, int]:
    """Of "X.Y" or a semantic version; the rest of it does not count, as in etcd."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise WrongDowngradeVersionFormat
    return int(match[1]), int(match[2])
