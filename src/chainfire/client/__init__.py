"""The client library: `connect` (async) and `connect_sync`.

    async with connect("http://10.0.0.1:2379,http://10.0.0.2:2379") as client:
        await client.put("rate", "7")
        kv = await client.get("rate")
        outcome = await client.cas("rate", "8", expect=kv)
        async for page in client.scan("jobs/"):
            ...
        async with client.watch_prefix("jobs/") as watch:
            async for changes in watch:
                ...
        async with client.session() as session, session.lock("backup") as held:
            ...

Works with Chainfire and with etcd. Names are looked up when they are asked for,
so that pure parts can be used without gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainfire.client.calls import Consistency
    from chainfire.client.client import Client, connect
    from chainfire.client.faults import (
        ClientError,
        OutcomeUnknown,
        ServerFault,
        TimedOut,
        Unreachable,
    )
    from chainfire.client.leasing import Held, Lease, LeaseStatus
    from chainfire.client.sessions import Leadership, Lock, Session
    from chainfire.client.sync import SyncClient, connect_sync
    from chainfire.client.syncsessions import SyncLeadership, SyncLock, SyncSession
    from chainfire.client.tls import Tls
    from chainfire.client.values import (
        CasOutcome,
        Change,
        Changes,
        DeleteOutcome,
        KeyValue,
        MemberStatus,
        Page,
        PutOutcome,
        TxnOutcome,
    )
    from chainfire.client.watching import Watch, WatchCompacted

_HOME = {
    **dict.fromkeys(("Client", "connect"), "client"),
    **dict.fromkeys(("SyncClient", "connect_sync"), "sync"),
    **dict.fromkeys(("CasOutcome", "DeleteOutcome", "KeyValue", "MemberStatus"), "values"),
    **dict.fromkeys(("Page", "PutOutcome", "TxnOutcome"), "values"),
    **dict.fromkeys(("ClientError", "OutcomeUnknown", "ServerFault"), "faults"),
    **dict.fromkeys(("TimedOut", "Unreachable"), "faults"),
    **dict.fromkeys(("Change", "Changes"), "values"),
    **dict.fromkeys(("Watch", "WatchCompacted"), "watching"),
    **dict.fromkeys(("Held", "Lease", "LeaseStatus"), "leasing"),
    **dict.fromkeys(("Leadership", "Lock", "Session"), "sessions"),
    **dict.fromkeys(("SyncLeadership", "SyncLock", "SyncSession"), "syncsessions"),
    "Consistency": "calls",
    "Tls": "tls",
}

__all__ = [
    "CasOutcome",
    "Change",
    "Changes",
    "Client",
    "ClientError",
    "Consistency",
    "DeleteOutcome",
    "Held",
    "KeyValue",
    "Leadership",
    "Lease",
    "LeaseStatus",
    "Lock",
    "MemberStatus",
    "OutcomeUnknown",
    "Page",
    "PutOutcome",
    "ServerFault",
    "Session",
    "SyncClient",
    "SyncLeadership",
    "SyncLock",
    "SyncSession",
    "TimedOut",
    "Tls",
    "TxnOutcome",
    "Unreachable",
    "Watch",
    "WatchCompacted",
    "connect",
    "connect_sync",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'chainfire.client' has no attribute {name!r}")
    return getattr(importlib.import_module(f"chainfire.client.{_HOME[name]}"), name)
