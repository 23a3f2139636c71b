"""Whether a request fits into this member's quota (etcd: v3rpc/quota.go).

The quota is each member's own, so it is looked at before the log; what
refuses writes on every member is the alarm that is raised here.
"""

from __future__ import annotations

from typing import Any

from chainfire import quota
from chainfire.api.call import Call
from chainfire.api.services import Services
from chainfire.command import CommandKind
from chainfire.errors import NoSpace
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from chainfire.types import Alarm, Result

_KEYSPACE = 0
_ALARM = int(CommandKind.ALARM)


def near_quota(services: Services, body: bytes) -> bool:
    """Whether a write could be over quota: a bound that needs no look into it.

    An operation on keys takes two bytes at least, and costs its length and an overhead; a lease
    costs less.
    """
    limit = services.limits.quota_bytes
    cost_max = quota.PUT_OVERHEAD_BYTES * (1 + len(body) // 2) + len(body)
    return 0 <= limit <= services.node.machine_as_applied.usage(_KEYSPACE) + cost_max


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
