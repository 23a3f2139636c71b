"""Whether there is room for a request, before it goes to the log.

The quota is each member's own, so it can be looked at here only (etcd: v3rpc/quota.go); what
refuses writes on every member is the alarm that is raised here, or by a member whose disk is
nearly full (`node.duties`).

The machine refuses what alarms forbid. But what comes as far has been through every log, value and
all, and on a nearly full disk that may be the end of a member. So while an alarm is on, whatever
may add something first asks the machine as a linearizable read would: who has heard that the alarm
was cleared is not refused any more, whichever member he asks.
"""

from __future__ import annotations

from typing import Any

from chainfire import quota
from chainfire.api.call import Call
from chainfire.api.services import NodeFace, Services
from chainfire.command import CommandKind
from chainfire.errors import NoSpace, RequestError
from chainfire.proto.kv_pb2 import LINEARIZABLE
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from chainfire.types import Alarm, Pending, Result

_KEYSPACE = 0
_ALARM = int(CommandKind.ALARM)


def may_lack_room(services: Services, body: bytes) -> bool:
    """Whether a write could be over quota, or refused by an alarm: a bound that needs no look into
    it.

    An operation on keys takes two bytes at least, and costs its length and an overhead; a lease
    costs less.
    """
    machine, limit = services.node.machine_as_applied, services.limits.quota_bytes
    cost_max = quota.PUT_OVERHEAD_BYTES * (1 + len(body) // 2) + len(body)
    return machine.has_alarms or 0 <= limit <= machine.usage(_KEYSPACE) + cost_max


def over_quota(services: Services, call: Call, request: Any) -> bool:
    """Whether the request does not fit; then the call gets its answer once the alarm is raised.

    Raises NoSpace where it is raised already.
    """
    machine = services.node.machine
    limit = services.limits.quota_bytes
    if not quota.exceeds(machine.usage(_KEYSPACE), quota.cost(request), limit):
        return False
    member_id = services.node.member_id
    if Alarm(member_id, NOSPACE) in machine.alarms:
        raise NoSpace
    alarm = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=member_id, alarm=NOSPACE)
    call.then = _alarm_raised
    services.node.propose(_ALARM, alarm.SerializeToString(), call)
    return True


def _alarm_raised(call: Call, _: Result) -> None:
    call.fail(NoSpace())


def propose_growth(
    node: NodeFace, kind: int, body: bytes, pending: Pending, deadline: float | None = None
) -> None:
    """Replicate a command that may add something, unless an alarm forbids it.

    `deadline` is the caller's. If he goes while that is found out, nothing is proposed.
    """
    if node.machine_as_applied.has_alarms:
        node.read(LINEARIZABLE, 0, deadline, _Growth(node, kind, body, pending))
    else:
        node.propose(kind, body, pending)


class _Growth:
    """A command that waits to hear whether the alarm is on still; a ReadPending."""

    __slots__ = ("_body", "_kind", "_node", "_pending")

    def __init__(self, node: NodeFace, kind: int, body: bytes, pending: Pending) -> None:
        self._node = node
        self._kind = kind
        self._body = body
        self._pending = pending

    @property
    def finished(self) -> bool:
        return self._pending.finished

    def ready(self) -> None:
        if self._pending.finished:
            return
        try:
            self._node.machine_as_applied.ensure_may_grow()
        except RequestError as error:
            self._pending.refused(error)
        else:
            self._node.propose(self._kind, self._body, self._pending)

    def refused(self, error: RequestError) -> None:
        self._pending.refused(error)
