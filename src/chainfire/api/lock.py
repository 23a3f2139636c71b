"""The Lock service: as etcd's, with the fencing token in a field of its own.

Lock is a unary call that may wait for ever; it ends with its caller.
"""

from __future__ import annotations

from chainfire.api.awaiting import Slow
from chainfire.api.call import Call
from chainfire.api.claims import claim, lease_for
from chainfire.api.maintenance import decode
from chainfire.api.services import Services
from chainfire.command import CommandKind
from chainfire.mvcc import syntax
from chainfire.proto.kv_pb2 import DeleteRangeRequest
from chainfire.proto.lock_pb2 import LockRequest, LockResponse, UnlockRequest
from chainfire.types import DeleteResult

_DELETE_RANGE = int(CommandKind.DELETE_RANGE)


def lock(services: Services, call: Call) -> None:
    request = decode(LockRequest, call.request)
    Slow(call, _lock(services, request, call.deadline))


async def _lock(services: Services, request: LockRequest, deadline: float | None) -> bytes:
    async with lease_for(services, request.lease) as lease:
        won = await claim(services, request.name, lease, None, deadline)
    reply = LockResponse(key=won.key, revision=won.create_revision)
    return services.header(won.revision) + reply.SerializeToString()


def unlock(services: Services, call: Call) -> None:
    request = DeleteRangeRequest(key=decode(UnlockRequest, call.request).key)
    syntax.check_delete(request)
    call.then = _unlocked
    services.node.propose(_DELETE_RANGE, request.SerializeToString(), call)


def _unlocked(call: Call, result: DeleteResult) -> None:
    call.reply(call.services.header(result.revision))
