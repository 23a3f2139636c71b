"""etcd's flags that are not options here: accepted by `chainfire etcd`, each with a warning.

A flag stands here because its function comes with a later version, or because
nothing here corresponds to it. A value that asks only for what happens anyway
(`harmless`) is passed over. A few ask for something that must not be left out
in silence nor with a mere warning: starting would give another cluster or
another history than the one asked for, so those are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chainfire.config.schema import BY_FLAG

_OFF: Final = frozenset({"", "0", "0s", "false"})
_ON: Final = frozenset({"true"})
_TLS_CLIENT = "nothing here connects to a client URL"
_DISCOVERY = "discovery is not there yet"
_AUTH = "users and roles are not there yet"
_CHECKS = "checks between members are not there yet"
_TRACING = "tracing is not there yet"
_ONE_MEMBER = "has no effect on a cluster of one member"
_ENGINE = "belongs to etcd's storage engine; the one used here has no such setting"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A flag of etcd without an option here. `why` completes "--flag has no effect: …"."""

    why: str
    is_bool: bool = False
    harmless: frozenset[str] = _OFF
    refused: bool = False


def _texts(why: str, *flags: str, refused: bool = False) -> dict[str, Foreign]:
    return {flag: Foreign(why, refused=refused) for flag in flags}


def _bools(why: str, *flags: str, harmless: frozenset[str] = _OFF) -> dict[str, Foreign]:
    return {flag: Foreign(why, is_bool=True, harmless=harmless) for flag in flags}


FOREIGN: Final[dict[str, Foreign]] = {
    # Member
    **_texts("log and state share --data-dir", "wal-dir"),
    **_bools(_ONE_MEMBER, "initial-election-tick-advance", harmless=_ON),
    **_texts("the log is cut by --snapshot-count alone", "max-wals", "max-snapshots"),
    **_texts(_ENGINE, "backend-batch-interval", "backend-batch-limit"),
    **_texts(_ENGINE, "backend-bbolt-freelist-type", "bootstrap-defrag-threshold-megabytes"),
    **_bools(_ENGINE, "memory-mlock"),
    **_bools("sockets are never shared here", "socket-reuse-port"),
    **_bools("addresses are reused anyway", "socket-reuse-address"),
    **_texts(_ONE_MEMBER, "raft-read-timeout", "raft-write-timeout"),
    **_texts(_CHECKS, "corrupt-check-time", "compact-hash-check-time", "downgrade-check-time"),
    # Clustering
    **_texts(
        _DISCOVERY,
        *("discovery-token", "discovery-endpoints", "discovery-srv", "discovery"),
        refused=True,
    ),
    **_texts(
        _DISCOVERY,
        *("discovery-dial-timeout", "discovery-request-timeout", "discovery-keepalive-time"),
        *("discovery-keepalive-timeout", "discovery-cert", "discovery-key", "discovery-cacert"),
        *("discovery-user", "discovery-password", "discovery-srv-name", "discovery-proxy"),
    ),
    "discovery-fallback": Foreign(_DISCOVERY, harmless=frozenset({"exit", "proxy"})),
    **_bools(_DISCOVERY, "discovery-insecure-skip-tls-verify"),
    **_bools(_DISCOVERY, "discovery-insecure-transport", harmless=_ON),
    # Security
    **_texts(_TLS_CLIENT, "client-cert-file", "client-key-file"),
    **_texts(
        "one certificate serves both directions here, that of --peer-cert-file",
        *("peer-client-cert-file", "peer-client-key-file"),
        refused=True,
    ),
    **_bools("members are known by their ids, not by names", "peer-skip-client-san-verification"),
    # Auth
    "auth-token": Foreign(_AUTH, harmless=frozenset({"", "simple"})),
    **_texts(_AUTH, "auth-token-ttl", "bcrypt-cost"),
    # Observability, logging, unsafe
    **_bools("Go's profiler has no counterpart here", "enable-pprof"),
    **_bools(_TRACING, "enable-distributed-tracing"),
    **_texts(
        _TRACING,
        *("distributed-tracing-address", "distributed-tracing-service-name"),
        *("distributed-tracing-instance-id", "distributed-tracing-sampling-rate"),
    ),
    "warning-unary-request-duration": Foreign(
        "slow turns are logged (--warning-apply-duration), single requests are not",
        harmless=frozenset({"", "0", "0s", "300ms"}),
    ),
    "logger": Foreign("there is one logger", harmless=frozenset({"", "zap"})),
    "log-outputs": Foreign("the log goes to stderr", harmless=frozenset({"", "default", "stderr"})),
    **_bools("the log goes to stderr", "enable-log-rotation"),
    **_texts("the log goes to stderr", "log-rotation-config-json"),
    **_bools("every acknowledged write is synced", "unsafe-no-fsync"),
    # Gone from etcd 3.7, still found in old unit files
    **_bools("the v2 API is gone", "enable-v2"),
    **_texts("the v2 API is gone", "enable-v2v3", "v2-deprecation", "proxy-failure-wait"),
    **_texts("the v2 API is gone", "proxy-refresh-interval", "proxy-dial-timeout"),
    **_texts("the v2 API is gone", "proxy-write-timeout", "proxy-read-timeout"),
    "proxy": Foreign("the v2 API is gone", harmless=frozenset({"", "off"}), refused=True),
    **_bools("use --log-level=debug", "debug"),
    **_texts("use --log-level", "log-package-levels"),
    **_texts("members start when they are ready", "wait-cluster-ready-timeout"),
    # Feature gates that were flags before 3.6
    **_bools(_CHECKS, "initial-corrupt-check", "compact-hash-check-enabled"),
    **_bools("leases are not there yet", "enable-lease-checkpoint"),
    **_bools("leases are not there yet", "enable-lease-checkpoint-persist"),
    **_bools("defragmentation never stops the service", "stop-grpc-service-on-defrag"),
    **_bools(_ENGINE, "txn-mode-write-with-shared-buffer"),
    **_bools(_ONE_MEMBER, "set-member-localaddr"),
}

FEATURE_GATES: Final = frozenset(
    {
        *("StopGRPCServiceOnDefrag", "InitialCorruptCheck", "CompactHashCheck"),
        *("LeaseCheckpoint", "LeaseCheckpointPersist", "SetMemberLocalAddr", "PriorityRequest"),
        *("TxnModeWriteWithSharedBuffer", "FastLeaseKeepAlive", "AllAlpha", "AllBeta"),
    }
)

SPECIAL: Final = {"config-file": False, "version": True, "help": True, "h": True}
_EXPERIMENTAL = "experimental-"


def plain_name(flag: str) -> str:
    """etcd 3.5's `experimental-x` as `x`, where x is known; else the name as it is."""
    plain = flag.removeprefix(_EXPERIMENTAL)
    return plain if plain in BY_FLAG or plain in FOREIGN else flag


def is_etcd_flag(flag: str) -> bool:
    plain = plain_name(flag)
    return plain in FOREIGN or plain in SPECIAL or plain == "feature-gates"
