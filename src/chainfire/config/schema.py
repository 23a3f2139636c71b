"""The one schema: every option with its default, its names, its kind and what to weigh.

A field's name carries its unit and is its TOML key under `[section]`; its flag
has etcd's name wherever etcd has such a flag (reference: etcd 3.7 flags), and
its environment variable is CHAINFIRE_ + the flag, upper-cased, `-` as `_`.
Values that depend on each other are checked in relations.py, never here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chainfire.config import kinds
from chainfire.config.kinds import Kind
from chainfire.config.urls import Url, parse_urls

MIB = 1024**2
GIB = 1024**3
CLIENT_URLS = parse_urls("http://localhost:2379")
PEER_URLS = parse_urls("http://localhost:2380")


def _option(default: Any, flag: str, kind: Kind, doc: str) -> Any:
    return dataclasses.field(
        default=default, metadata={"flag": flag, "kind": kind, "doc": " ".join(doc.split())}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """Who this member is and where it keeps its data."""

    name: str = _option("default", "name", kinds.TEXT, "Name of this member, unique in the cluster")
    data_dir: str = _option(
        "default.chainfire",
        "data-dir",
        kinds.TEXT,
        """Directory of everything this member keeps; one process at a time. Not given:
        NAME.chainfire (chainfire etcd: NAME.etcd) in the working directory""",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Where it listens and what it tells others. Listeners take addresses, not host names."""

    listen_client_urls: tuple[Url, ...] = _option(
        CLIENT_URLS, "listen-client-urls", kinds.URLS, "Where clients are served"
    )
    advertise_client_urls: tuple[Url, ...] = _option(
        CLIENT_URLS,
        "advertise-client-urls",
        kinds.URLS,
        "Where clients reach this member, as told by MemberList; required with listen-client-urls",
    )
    listen_client_http_urls: tuple[Url, ...] = _option(
        (),
        "listen-client-http-urls",
        kinds.URLS,
        "Serve HTTP (JSON, health, metrics) for clients here; needed with the door grpcio",
    )
    listen_metrics_urls: tuple[Url, ...] = _option(
        (), "listen-metrics-urls", kinds.URLS, "Serve /metrics, /health, /livez, /readyz here"
    )
    listen_peer_urls: tuple[Url, ...] = _option(
        PEER_URLS,
        "listen-peer-urls",
        kinds.URLS,
        "Where other members are served",
    )
    door: str = _option(
        "auto",
        "door",
        kinds.choice("auto", "native", "grpcio"),
        "Which gRPC server serves clients; auto takes the fastest that is installed",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """The cluster at its birth. Only the first start of a member looks at the initial-* options."""

    initial_advertise_peer_urls: tuple[Url, ...] = _option(
        PEER_URLS,
        "initial-advertise-peer-urls",
        kinds.URLS,
        "Where other members reach this one; the member id is made from it",
    )
    initial_cluster: tuple[tuple[str, tuple[Url, ...]], ...] = _option(
        (("default", PEER_URLS),),
        "initial-cluster",
        kinds.MEMBERS,
        "All founding members. Not given: this member alone, NAME=its peer URLs",
    )
    initial_cluster_state: str = _option(
        "new",
        "initial-cluster-state",
        kinds.choice("new", "existing"),
        "new: this start founds the cluster; existing: it joins one",
    )
    initial_cluster_token: str = _option(
        "etcd-cluster",
        "initial-cluster-token",
        kinds.TEXT,
        "Keeps clusters with equal URLs apart: it goes into cluster and member ids",
    )
    strict_reconfig_check: bool = _option(
        True,
        "strict-reconfig-check",
        kinds.BOOL,
        "Refuse membership changes that would endanger the quorum",
    )
    max_learners: int = _option(
        1, "max-learners", kinds.integer(1, 100), "Learners that the cluster may have at a time"
    )
    auto_heal: bool = _option(
        True,
        "auto-heal",
        kinds.BOOL,
        """A member whose disk has lost data, or whose state is not the majority's, puts its
        directory aside and takes everything from the others; false: it stops and says so""",
    )
    force_new_cluster: bool = _option(
        False,
        "force-new-cluster",
        kinds.BOOL,
        """Go on as a cluster of this member alone with what its disk still holds, accepting that
        acknowledged data may be lost; for one start""",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """Consensus timing and how much log is kept."""

    heartbeat_interval_ms: int = _option(
        100,
        "heartbeat-interval",
        kinds.duration(1, bare_ms=True),
        "How often a leader shows that it lives; about the round trip between members",
    )
    election_timeout_ms: int = _option(
        1000,
        "election-timeout",
        kinds.duration(1, bare_ms=True),
        """Silence after which a new leader is elected; at least 5 × heartbeat-interval, at most
        50000. The same on every member""",
    )
    pre_vote: bool = _option(
        True, "pre-vote", kinds.BOOL, "Ask before an election whether it could be won"
    )
    snapshot_count: int = _option(
        10_000, "snapshot-count", kinds.integer(1), "Applied entries between cuts of the log"
    )
    snapshot_catchup_entries: int = _option(
        5_000,
        "snapshot-catchup-entries",
        kinds.integer(0),
        "Entries kept behind a cut, so that slow followers need no snapshot",
    )
    snapshot_bytes_per_second: int = _option(
        64 * MIB,
        "snapshot-bytes-per-second",
        kinds.size(0),
        """How fast snapshots go to other members, all together; less than the disk and the network
        can do, or clients wait. 0 = as fast as it goes""",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """What a client may ask for."""

    quota_backend_bytes: int = _option(
        0,
        "quota-backend-bytes",
        kinds.size(-(2**62)),
        "Logical bytes of all data and history before NOSPACE; 0 = 2 GiB, negative = no quota",
    )
    alarm_auto_clear: bool = _option(
        True,
        "alarm-auto-clear",
        kinds.BOOL,
        "Clear NOSPACE once usage is well below the quota; false: only by hand, as etcd",
    )
    max_txn_ops: int = _option(
        128, "max-txn-ops", kinds.integer(1, 2**31), "Operations in one transaction"
    )
    max_request_bytes: int = _option(
        1_572_864, "max-request-bytes", kinds.size(1), "Size of one request"
    )
    max_concurrent_streams: int = _option(
        2**32 - 1,
        "max-concurrent-streams",
        kinds.integer(1, 2**32 - 1),
        "HTTP/2 streams that one connection may hold open",
    )
    watch_progress_notify_interval_ms: int = _option(
        600_000,
        "watch-progress-notify-interval",
        kinds.duration(100),
        "How often quiet watches that asked for it are told how far they have seen; 100ms at least",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcConfig:
    """Keepalive of client connections."""

    grpc_keepalive_min_time_ms: int = _option(
        5_000,
        "grpc-keepalive-min-time",
        kinds.duration(0),
        "A client that pings more often than this is disconnected",
    )
    grpc_keepalive_interval_ms: int = _option(
        7_200_000,
        "grpc-keepalive-interval",
        kinds.duration(0),
        "How often an idle client is pinged; 0 = never",
    )
    grpc_keepalive_timeout_ms: int = _option(
        20_000,
        "grpc-keepalive-timeout",
        kinds.duration(0),
        "How long to wait for the answer to a ping; 0 = for ever",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """What speaks HTTP on the client URLs: the JSON gateway and the pages beside it."""

    enable_grpc_gateway: bool = _option(
        True, "enable-grpc-gateway", kinds.BOOL, "Serve the API as JSON, /v3/ and /chainfire/v1/"
    )
    cors: tuple[str, ...] = _option(
        ("*",), "cors", kinds.WORDS, "Origins whose pages may read answers; * = all"
    )
    host_whitelist: tuple[str, ...] = _option(
        ("*",),
        "host-whitelist",
        kinds.WORDS,
        "Host names that requests without TLS may be sent to; * = all",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Certificates for clients, on https:// and unixs:// URLs. Changed files are read anew."""

    cert_file: str = _option(
        "", "cert-file", kinds.TEXT, "PEM file of the certificate, its chain behind it"
    )
    key_file: str = _option("", "key-file", kinds.TEXT, "PEM file of the certificate's key")
    trusted_ca_file: str = _option(
        "",
        "trusted-ca-file",
        kinds.TEXT,
        """PEM file of those who sign clients' certificates; given, a client must show a certificate
        that one of them has signed""",
    )
    client_cert_auth: bool = _option(
        False,
        "client-cert-auth",
        kinds.BOOL,
        "Clients must show a certificate; needs trusted-ca-file",
    )
    client_crl_file: str = _option(
        "",
        "client-crl-file",
        kinds.TEXT,
        "PEM file of revocation lists: clients' certificates that they name are refused",
    )
    client_cert_allowed_hostname: tuple[str, ...] = _option(
        (),
        "client-cert-allowed-hostname",
        kinds.WORDS,
        "Host names, one of which must be in a client's certificate; none: any certificate does",
    )
    auto_tls: bool = _option(
        False,
        "auto-tls",
        kinds.BOOL,
        """Without cert-file: make a certificate that signs itself, kept in the data directory. It
        keeps listeners out, not impostors""",
    )
    self_signed_cert_validity: int = _option(
        1,
        "self-signed-cert-validity",
        kinds.integer(1, 100),
        "Years for which certificates of auto-tls and peer-auto-tls are valid",
    )
    tls_min_version: str = _option(
        "TLS1.2", "tls-min-version", kinds.choice("TLS1.2", "TLS1.3"), "Least version of TLS"
    )
    tls_max_version: str = _option(
        "",
        "tls-max-version",
        kinds.choice("", "TLS1.2", "TLS1.3"),
        "Greatest version of TLS; empty: the newest there is",
    )
    cipher_suites: tuple[str, ...] = _option(
        (),
        "cipher-suites",
        kinds.WORDS,
        "Cipher suites that may be used, by IANA's names; none: the library's choice",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTlsConfig:
    """The same between members, for https:// peer URLs: one certificate for both directions."""

    cert_file: str = _option("", "peer-cert-file", kinds.TEXT, "As cert-file")
    key_file: str = _option("", "peer-key-file", kinds.TEXT, "As key-file")
    trusted_ca_file: str = _option(
        "",
        "peer-trusted-ca-file",
        kinds.TEXT,
        "PEM file of those who sign members' certificates; given, members must show one",
    )
    client_cert_auth: bool = _option(
        False,
        "peer-client-cert-auth",
        kinds.BOOL,
        "Members that connect must show a certificate; needs peer-trusted-ca-file",
    )
    crl_file: str = _option("", "peer-crl-file", kinds.TEXT, "As client-crl-file")
    cert_allowed_cn: tuple[str, ...] = _option(
        (),
        "peer-cert-allowed-cn",
        kinds.WORDS,
        "Common names, one of which a member that connects must have in its certificate",
    )
    cert_allowed_hostname: tuple[str, ...] = _option(
        (), "peer-cert-allowed-hostname", kinds.WORDS, "The same with host names, instead"
    )
    auto_tls: bool = _option(
        False, "peer-auto-tls", kinds.BOOL, "As auto-tls; members do not verify each other then"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionConfig:
    """History: what is dropped by itself, and at what pace."""

    auto_compaction_mode: str = _option(
        "periodic",
        "auto-compaction-mode",
        kinds.choice("periodic", "revision"),
        "periodic: keep a span of time; revision: keep a number of revisions",
    )
    auto_compaction_retention: str = _option(
        "0",
        "auto-compaction-retention",
        kinds.TEXT,
        """0 = off. periodic: a duration ("30m"; a plain number means hours);
        revision: a number of revisions""",
    )
    compaction_batch_limit: int = _option(
        1_000, "compaction-batch-limit", kinds.integer(1), "Revisions dropped in one slice"
    )
    compaction_sleep_interval_ms: int = _option(
        10,
        "compaction-sleep-interval",
        kinds.duration(0),
        "Pause between slices, so that requests go first",
    )

    @property
    def keep_period_ms(self) -> int:
        """The span of time to keep; 0 = not compacted by time. Raises BadValue."""
        if self.auto_compaction_mode != "periodic":
            return 0
        text = self.auto_compaction_retention.strip()
        if text.isdecimal() and len(text) < 8:  # etcd: a plain number means hours
            return int(text) * 3_600_000
        return kinds.ms_of_ns(kinds.parse_duration_ns(text))

    @property
    def keep_revisions(self) -> int:
        """The number of revisions to keep; 0 = not compacted by number. Raises BadValue."""
        if self.auto_compaction_mode != "revision":
            return 0
        parsed: int = kinds.integer(0).parse(self.auto_compaction_retention.strip())
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Memory and disk."""

    cache_bytes: int = _option(
        128 * MIB,
        "cache-bytes",
        kinds.size(8 * MIB),
        "Memory for cached data, all caches together; does not grow with the number of keys",
    )
    ballast_bytes: int = _option(
        64 * MIB,
        "ballast-bytes",
        kinds.size(0),
        "Disk space held back so that a full disk can still be opened and cleaned; 0 = none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig:
    """One line per record on stderr."""

    log_level: str = _option(
        "info",
        "log-level",
        kinds.choice("debug", "info", "warn", "error", "panic", "fatal"),
        "Least severe level that is written",
    )
    log_format: str = _option(
        "console",
        "log-format",
        kinds.choice("console", "json"),
        "console for eyes, json for machines (chainfire etcd: json unless given)",
    )
    warning_apply_duration_ms: int = _option(
        100,
        "warning-apply-duration",
        kinds.duration(0),
        "Log a warning when a turn of the log (write and apply) takes longer; 0 = never",
    )
    metrics: str = _option(
        "basic",
        "metrics",
        kinds.choice("basic", "extensive"),
        "extensive: /metrics also tells how long calls take, which costs a little for each",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A complete configuration. Parts are given their section, not the whole."""

    member: MemberConfig = MemberConfig()
    network: NetworkConfig = NetworkConfig()
    cluster: ClusterConfig = ClusterConfig()
    raft: RaftConfig = RaftConfig()
    limits: LimitsConfig = LimitsConfig()
    grpc: GrpcConfig = GrpcConfig()
    http: HttpConfig = HttpConfig()
    tls: TlsConfig = TlsConfig()
    peer_tls: PeerTlsConfig = PeerTlsConfig()
    compaction: CompactionConfig = CompactionConfig()
    storage: StorageConfig = StorageConfig()
    logging: LoggingConfig = LoggingConfig()


@dataclass(frozen=True, slots=True)
class Option:
    """One field of the schema, found by introspection; `key` is `section.field`."""

    section: str
    field: str
    flag: str
    kind: Kind
    default: Any
    doc: str

    @property
    def key(self) -> str:
        return f"{self.section}.{self.field}"

    def environment(self, prefix: str) -> str:
        return environment_name(prefix, self.flag)

    def get(self, config: Config) -> Any:
        return getattr(getattr(config, self.section), self.field)


def environment_name(prefix: str, flag: str) -> str:
    """etcd's rule: the prefix, then the flag upper-cased with `-` as `_`."""
    return prefix + flag.upper().replace("-", "_")


def _options() -> Iterator[Option]:
    for section in dataclasses.fields(Config):
        for field in dataclasses.fields(section.default):  # type: ignore[arg-type]
            meta = field.metadata
            yield Option(
                section.name, field.name, meta["flag"], meta["kind"], field.default, meta["doc"]
            )


OPTIONS: tuple[Option, ...] = tuple(_options())
BY_FLAG: dict[str, Option] = {option.flag: option for option in OPTIONS}
BY_KEY: dict[str, Option] = {option.key: option for option in OPTIONS}


def build(values: dict[str, Any]) -> Config:
    """A Config from `section.field` → value; what is missing takes its default."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        option = BY_KEY[key]
        sections.setdefault(option.section, {})[option.field] = value
    default = Config()
    return Config(
        **{
            name: dataclasses.replace(getattr(default, name), **fields)
            for name, fields in sections.items()
        }
    )
