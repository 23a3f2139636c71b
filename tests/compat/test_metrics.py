"""`/metrics` beside a real etcd's: names, types, labels and buckets, so that dashboards fit."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests import peers
from tests.clusters import Cluster
from tests.servers import Kind, Server, etcd, free_port

# What etcd has and we do not, with the reason.
ABSENT = {
    "etcd_debugging_auth_revision": "authentication",
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds": "inside etcd's engine",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds": "inside etcd's engine",
    "etcd_debugging_disk_backend_commit_write_duration_seconds": "inside etcd's engine",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds": "no index in memory",
    "etcd_debugging_snap_save_marshalling_duration_seconds": "no .snap files",
    "etcd_debugging_snap_save_total_duration_seconds": "no .snap files",
    "etcd_debugging_store_expires": "the store of etcd 2",
    "etcd_debugging_store_reads": "the store of etcd 2",
    "etcd_debugging_store_watch_requests": "the store of etcd 2",
    "etcd_debugging_store_watchers": "the store of etcd 2",
    "etcd_debugging_store_writes": "the store of etcd 2",
    "etcd_grpc_proxy_cache_hits_total": "no proxy",
    "etcd_grpc_proxy_cache_keys_total": "no proxy",
    "etcd_grpc_proxy_cache_misses_total": "no proxy",
    "etcd_grpc_proxy_events_coalescing": "no proxy",
    "etcd_grpc_proxy_watchers_coalescing_total": "no proxy",
    "etcd_mvcc_db_open_read_transactions": "no read transactions",
    "etcd_server_go_version": "Go",
    "etcd_snap_db_fsync_duration_seconds": "part of etcd_snap_db_save_total_duration_seconds",
    "etcd_snap_fsync_duration_seconds": "no .snap files",
    "promhttp_metric_handler_requests": "Go's page",
    "promhttp_metric_handler_requests_in_flight": "Go's page",
}


def with_metrics_url(server: Server) -> Server:
    """Of its own: not every door serves HTTP at the client URL."""
    server.flags = (*server.flags, f"--listen-metrics-urls=http://127.0.0.1:{free_port()}")
    return server


def scraped(server: Server) -> dict[str, Metric]:
    (url,) = (flag.partition("=")[2] for flag in server.flags if "metrics-urls" in flag)
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {name: f for name, f in families.items() if not name.startswith("go_")}


def labels(family: Metric) -> set[str]:
    return {name for sample in family.samples for name in sample.labels}


def bounds(family: Metric) -> set[str]:
    return {s.labels["le"] for s in family.samples if s.name.endswith("_bucket")}


def missing(theirs: dict[str, Metric], ours: dict[str, Metric]) -> list[str]:
    found = []
    for name, family in theirs.items():
        mine = ours.get(name)
        if mine is None:
            found.append(f"{name} ({family.type}): {family.documentation}")
        elif mine.type != family.type:
            found.append(f"{name}: {family.type} there, {mine.type} here")
        elif labels(family) != labels(mine) and family.samples and mine.samples:
            found.append(f"{name}: labels {labels(family)} there, {labels(mine)} here")
        elif bounds(family) != bounds(mine) and bounds(mine):
            found.append(f"{name}: buckets {bounds(family)} there, {bounds(mine)} here")
    return [line for line in found if line.partition(" ")[0] not in ABSENT]


def of_a_member(kind: Kind, data_dir: Path) -> dict[str, Metric]:
    with with_metrics_url(Server(kind, data_dir, flags=("--metrics=extensive",))) as server:
        return scraped(server)


def of_a_cluster(kind: Kind, directory: Path) -> dict[str, Metric]:
    directory.mkdir()
    with Cluster(kind, directory, prepare=with_metrics_url).start() as cluster:
        leader = cluster.leader()
        leader.put(b"a", b"b")
        return scraped(leader)


def test_a_member_has_all_of_etcd_s_metrics(tmp_path: Path) -> None:
    real = peers.need_kind(etcd("3.5"), "etcd 3.5")
    theirs = of_a_member(real, tmp_path / "theirs")
    ours = of_a_member(peers.need_chainfire(), tmp_path / "ours")
    assert missing(theirs, ours) == []
    assert not ABSENT.keys() & ours.keys()  # then it leaves the list


def test_a_leader_has_all_of_etcd_s_metrics_of_its_peers(tmp_path: Path) -> None:
    real = peers.need_kind(etcd("3.5"), "etcd 3.5")
    theirs = of_a_cluster(real, tmp_path / "theirs")
    ours = of_a_cluster(peers.need_chainfire(), tmp_path / "ours")
    assert missing(theirs, ours) == []
