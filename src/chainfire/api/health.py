"""grpc.health.v1, and the checks behind /health, /livez and /readyz (etcd: etcdhttp/health.go)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from chainfire.api.call import Call, Stream, answer_to
from chainfire.api.maintenance import decode
from chainfire.api.reads import wait_until
from chainfire.api.services import Services
from chainfire.errors import Code, FatalError, NoLeader, RequestError, Timeout
from chainfire.proto.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from chainfire.proto.kv_pb2 import LINEARIZABLE, SERIALIZABLE
from chainfire.proto.maintenance_pb2 import CORRUPT, NOSPACE

_SERVICE = ""  # the whole server: the only one that etcd registers


class UnknownService(RequestError):
    """grpc-go's answer to a health check of a service that is not registered."""

    code = Code.NOT_FOUND
    text = "unknown service"


# ── grpc.health.v1 ──────────────────────────────────────────────────────────


def _status(services: Services) -> HealthCheckResponse:
    serving = HealthCheckResponse.SERVING
    return HealthCheckResponse(
        status=serving if services.serving.now else HealthCheckResponse.NOT_SERVING
    )


def check(services: Services, call: Call) -> None:
    if decode(HealthCheckRequest, call.request).service != _SERVICE:
        raise UnknownService
    call.reply(_status(services).SerializeToString())


def list_(services: Services, call: Call) -> None:
    decode(HealthListRequest, call.request)
    reply = HealthListResponse(statuses={_SERVICE: _status(services)})
    call.reply(reply.SerializeToString())


async def watch(services: Services, stream: Stream) -> None:
    """The status now and at every change, until the client or the member goes."""
    known = decode(HealthCheckRequest, stream.request).service == _SERVICE
    unknown = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
    while True:
        change = services.serving.change
        reply = _status(services) if known else unknown
        await stream.send(reply.SerializeToString())
        await change.wait()


# ── HTTP health ─────────────────────────────────────────────────────────────

_ALARMS: dict[int, str] = {NOSPACE: "NOSPACE", CORRUPT: "CORRUPT"}


async def unhealthy_reason(
    services: Services, excluded_alarms: Collection[str], *, serializable: bool
) -> str:
    """Why /health says no; "" when it says yes."""
    reason = await _reason(services, excluded_alarms, serializable)
    if reason:
        services.counters.health_failures += 1
    else:
        services.counters.health_success += 1
    return reason


async def _reason(services: Services, excluded: Collection[str], serializable: bool) -> str:
    for alarm in services.node.machine.alarms:
        name = _ALARMS.get(alarm.type, "UNKNOWN")
        if name not in excluded:
            return f"ALARM {name}"
    if not serializable and not services.node.leader_id:
        return "RAFT NO LEADER"
    try:
        await _read(services, SERIALIZABLE if serializable else LINEARIZABLE)
    except RequestError as error:
        return f"RANGE ERROR:{error.message}"
    return ""


async def _read(services: Services, level: int) -> None:
    """Read one key, as a client would. Raises a RequestError."""
    try:
        async with asyncio.timeout(services.limits.request_timeout_seconds):
            await wait_until(services.node, level)
        services.node.backend.get("key_value", b"")
    except TimeoutError as exc:
        raise Timeout from exc
    except FatalError as exc:
        raise answer_to(exc, services, "health") from exc


async def _serializable_read(services: Services) -> str:
    return await _read_reason(services, SERIALIZABLE)


async def _linearizable_read(services: Services) -> str:
    return await _read_reason(services, LINEARIZABLE)


async def _read_reason(services: Services, level: int) -> str:
    if level == LINEARIZABLE and not services.node.leader_id:
        return NoLeader.text
    try:
        await _read(services, level)
    except RequestError as error:
        return error.message
    return ""


async def _data_corruption(services: Services) -> str:
    corrupt = any(alarm.type == CORRUPT for alarm in services.node.machine.alarms)
    return "alarm activated: CORRUPT" if corrupt else ""


async def _non_learner(services: Services) -> str:
    return "not supported for learner" if services.node.overview.status().is_learner else ""


_Check = Callable[[Services], Awaitable[str]]  # "" = ok, else what is wrong

CHECKS: dict[str, dict[str, _Check]] = {
    "livez": {"serializable_read": _serializable_read},
    "readyz": {
        "data_corruption": _data_corruption,
        "serializable_read": _serializable_read,
        "linearizable_read": _linearizable_read,
        "non_learner": _non_learner,
    },
}


@dataclass(slots=True, frozen=True)
class Verdict:
    """What /livez or /readyz answers."""

    ok: bool
    report: str  # a line per check


async def run_checks(services: Services, kind: str, names: Collection[str]) -> Verdict:
    """Run these checks of "livez" or "readyz", in the order of the table."""
    ok, lines = True, []
    for name, check_ in CHECKS[kind].items():
        if name not in names:
            continue
        problem = await check_(services)
        services.counters.count_check(kind, name, not problem)
        lines.append(f"[-]{name} failed: {problem}\n" if problem else f"[+]{name} ok\n")
        ok = ok and not problem
    return Verdict(ok, "".join(lines))
