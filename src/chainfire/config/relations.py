"""What must hold between the values of a configuration, whoever gave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chainfire.config.kinds import show_members
from chainfire.config.problems import Problem
from chainfire.config.schema import BY_FLAG, Config
from chainfire.config.urls import BadValue, Url, show_urls

DEFAULT = "default"
_ELECTION_TIMEOUT_MS_MAX = 50_000
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


def _check_urls(config: Config) -> Iterator[Problem]:
    for flag in (*_LISTENERS, *_ADVERTISED):
        urls: tuple[Url, ...] = BY_FLAG[flag].get(config)
        if not urls and flag in _NEVER_EMPTY:
            yield Problem(f"--{flag}", "at least one URL is needed", "")
        for url in urls:
            if url.is_tls:
                wanted = "TLS is not there yet; use http:// or unix:// on a trusted network"
                yield Problem(f"--{flag}", wanted, str(url))
    taken: dict[str, str] = {}
    for flag in _LISTENERS:
        for url in BY_FLAG[flag].get(config):
            if not url.may_be_bound:
                wanted = "expected an IP address or localhost to listen on, not a host name"
                yield Problem(f"--{flag}", wanted, str(url))
            other = taken.setdefault(url.address, flag)
            if other != flag and url.port != 0:
                yield Problem(f"--{flag}", f"--{other} listens there too", str(url))


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
    if len(members) > 1:
        wanted = "clusters of several members are not there yet; name this member alone"
        yield Problem("--initial-cluster", wanted, given)


def _check_compaction(config: Config) -> Iterator[Problem]:
    compaction = config.compaction
    try:
        assert compaction.keep_period_ms >= 0 <= compaction.keep_revisions
    except BadValue as exc:
        wanted = f"{exc} (--auto-compaction-mode is {compaction.auto_compaction_mode})"
        yield Problem("--auto-compaction-retention", wanted, compaction.auto_compaction_retention)
