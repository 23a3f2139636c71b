"""What the doors count, as plain integers; metrics pull them when they are asked.

One `MethodCounters` per method path and one increment per event: a door looks
its counters up once, when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chainfire.errors import Code
from chainfire.node.status import Times, doubling

# grpc_server_handling_seconds: the default buckets of etcd's library for it
HANDLING_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HASH_BOUNDS_SECONDS = doubling(0.01, 15)  # etcd_mvcc_hash_, etcd_mvcc_hash_rev_duration_seconds
CLIENT_VERSIONS_MAX = 64  # distinct `client-api-version` values counted; others are "other"


class MethodCounters:
    """One method of one service name."""

    __slots__ = ("handled", "handling", "received_messages", "sent_messages", "started")

    def __init__(self, handling: Times | None = None) -> None:
        self.started = 0
        self.handled = [0] * len(Code)  # by status code
        self.received_messages = 0
        self.sent_messages = 0
        self.handling = handling  # None: not measured


@dataclass(slots=True)
class ApiCounters:
    """Shared by all doors of a member."""

    extensive: bool = False  # how long calls take is measured too
    methods: dict[str, MethodCounters] = field(default_factory=dict)  # by path
    client_versions: dict[tuple[str, str], int] = field(default_factory=dict)  # (kind, version)
    received_bytes: int = 0
    sent_bytes: int = 0
    promoted: int = 0  # learners
    promote_failures: dict[str, int] = field(default_factory=dict)  # by reason
    hashes: Times = field(default_factory=lambda: Times(HASH_BOUNDS_SECONDS))
    hashes_of_revisions: Times = field(default_factory=lambda: Times(HASH_BOUNDS_SECONDS))
    health_success: int = 0
    health_failures: int = 0
    checks: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # -> [errors, successes]
    checks_last: dict[tuple[str, str], bool] = field(default_factory=dict)

    def method(self, path: str) -> MethodCounters:
        found = self.methods.get(path)
        if found is None:
            times = Times(HANDLING_BOUNDS_SECONDS) if self.extensive else None
            found = self.methods[path] = MethodCounters(times)
        return found

    def count_client(self, kind: str, version: str) -> None:
        """A request of a client that says (or does not say) its API version."""
        counted = self.client_versions
        key = kind, version
        if key not in counted and len(counted) >= CLIENT_VERSIONS_MAX:
            key = kind, "other"
        counted[key] = counted.get(key, 0) + 1

    def count_check(self, kind: str, name: str, ok: bool) -> None:
        """A check of /livez or /readyz."""
        self.checks.setdefault((kind, name), [0, 0])[ok] += 1
        self.checks_last[kind, name] = ok
