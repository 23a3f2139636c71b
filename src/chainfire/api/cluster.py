"""The Cluster service: who the members are."""

from __future__ import annotations

from chainfire.api.call import Call
from chainfire.api.maintenance import decode
from chainfire.api.services import Services
from chainfire.proto.cluster_pb2 import MemberListRequest, MemberListResponse
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL


def member_list(services: Services, call: Call) -> None:
    request = decode(MemberListRequest, call.request)
    call.resume = _member_list_ready
    level = LINEARIZABLE if request.linearizable else LOCAL
    services.node.read(level, 0, call.deadline, call)


def _member_list_ready(call: Call) -> None:
    members = call.services.node.machine.members
    reply = MemberListResponse(members=[members[id_] for id_ in sorted(members)])
    call.reply(call.services.header(0) + reply.SerializeToString())
