"""The paths of the JSON gateway: every method of the table, by etcd's names and by ours.

/v3/…            etcd's paths (its `google.api.http` options), in etcd's JSON
/chainfire/v1/…  the same tails, and every other method of chainfire.v1 as
                 service/method, in readable JSON

All take POST. A method that joins the table is served at once under
/chainfire/v1; under /v3 it needs a line in `_ETCD`, which a test asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from chainfire.api.table import METHODS, Method
from chainfire.gateway.json_codec import ETCD, READABLE, Codec, Dialect, codec

# Ends of paths of those that wait for what somebody else may have for long. A client that is gone
# by then would have it, too, until its lease ends: so they go when their clients do.
PATHS_IN_LINE: Final = ("/lock/lock", "/election/campaign")

_ETCD: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "etcdserverpb.KV": {
        "Range": ("kv/range",),
        "Put": ("kv/put",),
        "DeleteRange": ("kv/deleterange",),
        "Txn": ("kv/txn",),
        "Compact": ("kv/compaction",),
    },
    "etcdserverpb.Watch": {"Watch": ("watch",)},
    "etcdserverpb.Lease": {
        "LeaseGrant": ("lease/grant",),
        "LeaseRevoke": ("lease/revoke", "kv/lease/revoke"),
        "LeaseKeepAlive": ("lease/keepalive",),
        "LeaseTimeToLive": ("lease/timetolive", "kv/lease/timetolive"),
        "LeaseLeases": ("lease/leases", "kv/lease/leases"),
    },
    "etcdserverpb.Cluster": {
        "MemberAdd": ("cluster/member/add",),
        "MemberRemove": ("cluster/member/remove",),
        "MemberUpdate": ("cluster/member/update",),
        "MemberList": ("cluster/member/list",),
        "MemberPromote": ("cluster/member/promote",),
    },
    "etcdserverpb.Maintenance": {
        "Alarm": ("maintenance/alarm",),
        "Status": ("maintenance/status",),
        "Defragment": ("maintenance/defragment",),
        "Hash": ("maintenance/hash",),
        "HashKV": ("maintenance/hashkv",),
        "Snapshot": ("maintenance/snapshot",),
        "MoveLeader": ("maintenance/transfer-leadership",),
        "Downgrade": ("maintenance/downgrade",),
    },
    "etcdserverpb.Auth": {
        "AuthEnable": ("auth/enable",),
        "AuthDisable": ("auth/disable",),
        "AuthStatus": ("auth/status",),
        "Authenticate": ("auth/authenticate",),
        "UserAdd": ("auth/user/add",),
        "UserGet": ("auth/user/get",),
        "UserList": ("auth/user/list",),
        "UserDelete": ("auth/user/delete",),
        "UserChangePassword": ("auth/user/changepw",),
        "UserGrantRole": ("auth/user/grant",),
        "UserRevokeRole": ("auth/user/revoke",),
        "RoleAdd": ("auth/role/add",),
        "RoleGet": ("auth/role/get",),
        "RoleList": ("auth/role/list",),
        "RoleDelete": ("auth/role/delete",),
        "RoleGrantPermission": ("auth/role/grant",),
        "RoleRevokePermission": ("auth/role/revoke",),
    },
    "v3lockpb.Lock": {"Lock": ("lock/lock",), "Unlock": ("lock/unlock",)},
    "v3electionpb.Election": {
        "Campaign": ("election/campaign",),
        "Proclaim": ("election/proclaim",),
        "Leader": ("election/leader",),
        "Observe": ("election/observe",),
        "Resign": ("election/resign",),
    },
}
_OURS: Final = "chainfire.v1."
# HTTP has /health and /openapi.json; what these say belongs to gRPC.
_GRPC_ONLY: Final = frozenset({"Health", "ServerReflection"})
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(slots=True, frozen=True)
class Route:
    """One path."""

    path: str
    method: Method
    dialect: Dialect
    request: Codec
    reply: Codec

    @property
    def is_stream(self) -> bool:
        return self.method.stream is not None


def _route(path: str, method: Method, dialect: Dialect) -> Route:
    return Route(
        path,
        method,
        dialect,
        codec(method.request_type.DESCRIPTOR, dialect),
        codec(method.reply_type.DESCRIPTOR, dialect),
    )


def _routes() -> dict[str, Route]:
    routes = []
    tails: dict[tuple[str, str], str] = {}
    for service, methods in _ETCD.items():
        for name, paths in methods.items():
            method = METHODS[f"/{service}/{name}"]
            routes += [_route(f"/v3/{tail}", method, ETCD) for tail in paths]
            tails[service.rpartition(".")[2], name] = paths[0]
    for method in METHODS.values():
        service = method.service.removeprefix(_OURS)
        if service == method.service or service in _GRPC_ONLY:
            continue
        tail = tails.get((service, method.name), f"{_kebab(service)}/{_kebab(method.name)}")
        routes.append(_route(f"/chainfire/v1/{tail}", method, READABLE))
    return {route.path: route for route in routes}


def _kebab(name: str) -> str:
    return _WORDS.sub("-", name).lower()


ROUTES: Final = _routes()
