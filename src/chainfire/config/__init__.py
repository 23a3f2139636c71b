"""Configuration: one schema (schema.py), read from TOML, environment and flags, or by etcd's rules.

Parts of the member take their section (`config.raft`); nobody below the
composition root takes the whole. Anything wrong is a ConfigError that lists
every problem at once.
"""

from __future__ import annotations

from chainfire.config.schema import (
    ClusterConfig,
    CompactionConfig,
    Config,
    GrpcConfig,
    LimitsConfig,
    LoggingConfig,
    MemberConfig,
    NetworkConfig,
    PeerTlsConfig,
    RaftConfig,
    StorageConfig,
    TlsConfig,
)
from chainfire.config.urls import Url

__all__ = [
    "ClusterConfig",
    "CompactionConfig",
    "Config",
    "GrpcConfig",
    "LimitsConfig",
    "LoggingConfig",
    "MemberConfig",
    "NetworkConfig",
    "PeerTlsConfig",
    "RaftConfig",
    "StorageConfig",
    "TlsConfig",
    "Url",
]
