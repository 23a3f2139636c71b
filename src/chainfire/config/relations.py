"""What must hold between the values of a configuration, whoever gave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chainfire.config.kinds import show_members
from chainfire.config.problems import Problem
from chainfire.config.schema import BY_FLAG, Config, PeerTlsConfig, TlsConfig
from chainfire.config.urls import BadValue, Url, show_urls

DEFAULT = "default"
_ELECTION_TIMEOUT_MS_MAX = 50_000
_SNAPSHOT_BYTES_PER_SECOND_MIN = 64 << 10  # slower, and the receiver takes it for dead
_LISTENERS = (
    "listen-client-urls",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "listen-peer-urls",
)
_ADVERTISED = ("advertise-client-urls", "initial-advertise-peer-urls")
_NEVER_EMPTY = ("listen-client-urls", *_ADVERTISED)


def check(config: Config, origins: Mapping[str, str]) -> list[Problem]:
    """Every broken relation. `origins`: option key → where its value came from."""
    return [
        *_check_raft(config),
        *_check_urls(config),
        *_check_tls(config),
        *_check_advertised(config, origins),
        *_check_cluster(config),
        *_check_compaction(config),
    ]


def _check_raft(config: Config) -> Iterator[Problem]:
    raft = config.raft
    given = str(raft.election_timeout_ms)
    if raft.election_timeout_ms < 5 * raft.heartbeat_interval_ms:
        least = 5 * raft.heartbeat_interval_ms
        wanted = f"must be at least 5 × heartbeat-interval, that is {least} ms"
        yield Problem("--election-timeout", wanted, given)
    if raft.election_timeout_ms > _ELECTION_TIMEOUT_MS_MAX:
        wanted = f"must be at most {_ELECTION_TIMEOUT_MS_MAX} ms"
        yield Problem("--election-timeout", wanted, given)
    if 0 < raft.snapshot_bytes_per_second < _SNAPSHOT_BYTES_PER_SECOND_MIN:
        wanted = f"must be 0 or at least {_SNAPSHOT_BYTES_PER_SECOND_MIN}"
        yield Problem("--snapshot-bytes-per-second", wanted, str(raft.snapshot_bytes_per_second))


def _check_urls(config: Config) -> Iterator[Problem]:
    for flag in (*_LISTENERS, *_ADVERTISED):
        urls: tuple[Url, ...] = BY_FLAG[flag].get(config)
        if not urls and flag in _NEVER_EMPTY:
            yield Problem(f"--{flag}", "at least one URL is needed", "")
    taken: dict[str, str] = {}
    for flag in _LISTENERS:
        for url in BY_FLAG[flag].get(config):
            if not url.may_be_bound:
                wanted = "expected an IP address or localhost to listen on, not a host name"
                yield Problem(f"--{flag}", wanted, str(url))
            other = taken.setdefault(url.address, flag)
            if other != flag and url.port != 0:
                yield Problem(f"--{flag}", f"--{other} listens there too", str(url))


def _check_tls(config: Config) -> Iterator[Problem]:
    served = [flag for flag in _LISTENERS if flag != "listen-peer-urls"]
    yield from _check_certificate(config, config.tls, "", served)
    yield from _check_certificate(config, config.peer_tls, "peer-", ["listen-peer-urls"])
    tls, peer_tls = config.tls, config.peer_tls
    if peer_tls.cert_allowed_cn and peer_tls.cert_allowed_hostname:
        yield Problem("--peer-cert-allowed-hostname", "cannot go with --peer-cert-allowed-cn")
    checks = {
        "client-crl-file": tls.trusted_ca_file,
        "client-cert-allowed-hostname": tls.trusted_ca_file,
        "peer-crl-file": peer_tls.trusted_ca_file,
        "peer-cert-allowed-cn": peer_tls.trusted_ca_file,
        "peer-cert-allowed-hostname": peer_tls.trusted_ca_file,
    }
    for flag, authority in checks.items():
        if BY_FLAG[flag].get(config) and not authority:
            prefix = "peer-" if flag.startswith("peer-") else ""
            yield Problem(f"--{prefix}trusted-ca-file", f"required with --{flag}")
    if tls.tls_max_version and tls.tls_min_version > tls.tls_max_version:
        wanted = f"must not be above --tls-max-version, {tls.tls_max_version}"
        yield Problem("--tls-min-version", wanted, tls.tls_min_version)
    if tls.cipher_suites and tls.tls_min_version == "TLS1.3":
        yield Problem("--cipher-suites", "cannot be chosen when only TLS1.3 is enabled")


def _check_certificate(
    config: Config, tls: TlsConfig | PeerTlsConfig, prefix: str, listeners: list[str]
) -> Iterator[Problem]:
    if bool(tls.cert_file) != bool(tls.key_file):
        given, missing = ("cert", "key") if tls.cert_file else ("key", "cert")
        yield Problem(f"--{prefix}{missing}-file", f"required with --{prefix}{given}-file")
    if tls.client_cert_auth and not tls.trusted_ca_file:
        yield Problem(f"--{prefix}trusted-ca-file", f"required with --{prefix}client-cert-auth")
    if tls.cert_file or tls.auto_tls:
        return
    for flag in listeners:
        for url in BY_FLAG[flag].get(config):
            if url.is_tls:
                wanted = f"needs --{prefix}cert-file and --{prefix}key-file, or --{prefix}auto-tls"
                yield Problem(f"--{flag}", wanted, str(url))


def _check_advertised(config: Config, origins: Mapping[str, str]) -> Iterator[Problem]:
    def is_given(key: str) -> bool:
        return origins.get(key, DEFAULT) != DEFAULT

    if is_given("network.listen_client_urls") and not is_given("network.advertise_client_urls"):
        listen = show_urls(config.network.listen_client_urls)
        wanted = f"required when --listen-client-urls is set ({listen}): how clients reach it"
        yield Problem("--advertise-client-urls", wanted)


def _check_cluster(config: Config) -> Iterator[Problem]:
    name, cluster = config.member.name, config.cluster
    if not name or set(name) & set("=,"):
        yield Problem("--name", "must not be empty nor contain = or ,", name)
        return
    members = dict(cluster.initial_cluster)
    given = show_members(cluster.initial_cluster)
    if name not in members:
        wanted = f"must contain this member, {name!r} (its --name)"
        yield Problem("--initial-cluster", wanted, given)
    elif set(members[name]) != set(cluster.initial_advertise_peer_urls):
        mine = show_urls(cluster.initial_advertise_peer_urls)
        wanted = f"must give {name!r} the URLs of --initial-advertise-peer-urls, {mine}"
        yield Problem("--initial-cluster", wanted, given)


def _check_compaction(config: Config) -> Iterator[Problem]:
    compaction = config.compaction
    try:
        assert compaction.keep_period_ms >= 0 <= compaction.keep_revisions
    except BadValue as exc:
        wanted = f"{exc} (--auto-compaction-mode is {compaction.auto_compaction_mode})"
        yield Problem("--auto-compaction-retention", wanted, compaction.auto_compaction_retention)
