"""The metrics endpoint against the names, types and labels of a real etcd's."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from chainfire.errors import Code
from chainfire.metrics import Metrics
from chainfire.node.status import (
    Durations,
    NodeStatistics,
    PeerStatistics,
    SnapshotStatistics,
    TransferStatistics,
    TransportStatistics,
)
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from tests.api.fake_node import MEMBER_ID, Api

# As scraped from etcd 3.5.1 (the names that a single member with a KV load moves).
ETCD = {
    "etcd_cluster_version": "gauge",
    "etcd_debugging_lease_granted_total": "counter",
    "etcd_debugging_lease_renewed_total": "counter",
    "etcd_debugging_lease_revoked_total": "counter",
    "etcd_debugging_mvcc_compact_revision": "gauge",
    "etcd_debugging_mvcc_current_revision": "gauge",
    "etcd_debugging_mvcc_events_total": "counter",
    "etcd_debugging_mvcc_keys_total": "gauge",
    "etcd_debugging_mvcc_pending_events_total": "gauge",
    "etcd_debugging_mvcc_slow_watcher_total": "gauge",
    "etcd_debugging_mvcc_watch_stream_total": "gauge",
    "etcd_debugging_mvcc_watcher_total": "gauge",
    "etcd_debugging_server_lease_expired_total": "counter",
    "etcd_disk_backend_commit_duration_seconds": "histogram",
    "etcd_disk_wal_fsync_duration_seconds": "histogram",
    "etcd_disk_wal_write_bytes_total": "gauge",
    "etcd_mvcc_db_total_size_in_bytes": "gauge",
    "etcd_mvcc_db_total_size_in_use_in_bytes": "gauge",
    "etcd_mvcc_delete_total": "counter",
    "etcd_mvcc_put_total": "counter",
    "etcd_mvcc_range_total": "counter",
    "etcd_mvcc_txn_total": "counter",
    "etcd_network_client_grpc_received_bytes_total": "counter",
    "etcd_network_client_grpc_sent_bytes_total": "counter",
    "etcd_network_active_peers": "gauge",
    "etcd_network_disconnected_peers_total": "counter",
    "etcd_network_peer_received_bytes_total": "counter",
    "etcd_network_peer_round_trip_time_seconds": "histogram",
    "etcd_network_peer_sent_bytes_total": "counter",
    "etcd_network_peer_sent_failures_total": "counter",
    "etcd_server_client_requests_total": "counter",
    "etcd_server_has_leader": "gauge",
    "etcd_server_health_failures": "counter",
    "etcd_server_health_success": "counter",
    "etcd_server_id": "gauge",
    "etcd_server_is_leader": "gauge",
    "etcd_server_leader_changes_seen_total": "counter",
    "etcd_server_slow_apply_total": "counter",
    "etcd_server_is_learner": "gauge",
    "etcd_server_proposals_applied_total": "gauge",
    "etcd_server_proposals_committed_total": "gauge",
    "etcd_server_proposals_failed_total": "counter",
    "etcd_server_proposals_pending": "gauge",
    "etcd_server_quota_backend_bytes": "gauge",
    "etcd_server_version": "gauge",
    "grpc_server_handled_total": "counter",
    "grpc_server_msg_received_total": "counter",
    "grpc_server_msg_sent_total": "counter",
    "grpc_server_started_total": "counter",
    "os_fd_limit": "gauge",
    "os_fd_used": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_virtual_memory_bytes": "gauge",
}


def metrics_of(api: Api) -> Metrics:
    peer = PeerStatistics(
        peer=0xABC,
        is_up=True,
        sent_bytes=100,
        received_bytes=200,
        dropped=3,
        disconnects=4,
        waiting_bytes=0,
        round_trips=Durations((0.0001, 0.0002), (7, 2, 1), 0.01),
    )
    snapshots = SnapshotStatistics(
        sending=(TransferStatistics(0xABC, bytes_total=100, bytes_done=7),), receive_failures=4
    )

    def statistics() -> NodeStatistics:
        backend = api.node.backend.statistics()
        return NodeStatistics(
            leader_changes=2,
            proposals_pending=3,
            slow_turns=4,
            log_syncs=Durations((0.001, 0.002), (5, 2, 1), 0.5),
            state_syncs=Durations((0.001, 0.002), (1, 1, 1), 0.25),
            scrub_passes=6,
            tick_lateness_seconds_max=0.25,
            disk_free_bytes=10**9,
            log=backend,
            state=backend,
            machine=api.node.machine.statistics(),
            transport=TransportStatistics((peer,), snapshots),
        )

    return Metrics(api.services, statistics)


@pytest.fixture
def api() -> Api:
    return Api()


def text_of(api: Api) -> str:
    metrics = metrics_of(api)
    return metrics.exposition(metrics.take()).decode()


def values(api: Api) -> dict[str, float]:
    """Every sample, as `name{label="value",...}`."""
    found = {}
    for family in text_string_to_metric_families(text_of(api)):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_names_and_types_are_etcd_s(api: Api) -> None:
    for name in ("/etcdserverpb.KV/Put", "/chainfire.v1.KV/Put"):
        api.services.counters.method(name)
    types = dict(
        line.split()[2:4] for line in text_of(api).splitlines() if line.startswith("# TYPE")
    )
    assert {name: types.get(name) for name in ETCD} == ETCD


def test_the_store_s_numbers_follow_the_load(api: Api) -> None:
    for n in range(3):
        api.do("KV.Put", PutRequest(key=b"k%d" % n))
    api.do("KV.DeleteRange", DeleteRangeRequest(key=b"k0"))
    api.do("KV.Txn", TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"t"))]))
    found = values(api)
    assert found["etcd_mvcc_put_total"] == 4
    assert found["etcd_mvcc_delete_total"] == 1
    assert found["etcd_mvcc_txn_total"] == 1
    assert found["etcd_debugging_mvcc_keys_total"] == 3
    assert found["etcd_debugging_mvcc_current_revision"] == 6
    assert found["etcd_debugging_mvcc_compact_revision"] == -1
    assert found["etcd_server_proposals_applied_total"] == 5
    assert found["etcd_server_proposals_pending"] == 3
    assert found["etcd_mvcc_db_total_size_in_use_in_bytes"] > 0


def test_identity_version_and_leadership_are_told(api: Api) -> None:
    found = values(api)
    assert found[f'etcd_server_id{{server_id="{MEMBER_ID:x}"}}'] == 1
    assert found['etcd_server_version{server_version="3.7.1"}'] == 1
    assert found['etcd_cluster_version{cluster_version="3.7"}'] == 1
    assert (found["etcd_server_has_leader"], found["etcd_server_is_leader"]) == (1, 1)
    api.node.leader_id = 0
    found = values(api)
    assert (found["etcd_server_has_leader"], found["etcd_server_is_leader"]) == (0, 0)


def test_an_alarm_has_a_series_while_it_is_raised(api: Api) -> None:
    raised = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=10, alarm=NOSPACE)
    api.do("Maintenance.Alarm", raised)
    name = 'etcd_debugging_server_alarms{alarm_type="NOSPACE",server_id="a"}'
    assert values(api)[name] == 1
    api.do("Maintenance.Alarm", AlarmRequest(action=2, memberID=10, alarm=NOSPACE))
    assert name not in values(api)


@pytest.mark.parametrize(
    ("name", "counts", "total"),
    [
        ("etcd_disk_wal_fsync_duration_seconds", [5, 7, 8], 0.5),
        ("etcd_disk_backend_commit_duration_seconds", [1, 2, 3], 0.25),
    ],
)
def test_sync_times_are_cumulative_buckets(
    api: Api, name: str, counts: list[int], total: float
) -> None:
    found = values(api)
    buckets = [found[f'{name}_bucket{{le="{bound}"}}'] for bound in ("0.001", "0.002", "+Inf")]
    assert buckets == counts
    assert (found[f"{name}_count"], found[f"{name}_sum"]) == (counts[-1], total)


def test_calls_are_counted_by_method_and_code(api: Api) -> None:
    counters = api.services.counters.method("/etcdserverpb.KV/Put")
    counters.started, counters.handled[0], counters.handled[Code.UNAVAILABLE] = 5, 3, 2
    api.services.counters.method("/chainfire.v1.KV/Put")
    found = values(api)
    labels = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    assert found[f"grpc_server_started_total{{{labels}}}"] == 5
    assert found[f'grpc_server_handled_total{{grpc_code="OK",{labels}}}'] == 3
    assert found[f'grpc_server_handled_total{{grpc_code="Unavailable",{labels}}}'] == 2
    assert found[f'grpc_server_handled_total{{grpc_code="DeadlineExceeded",{labels}}}'] == 0
    assert not any("chainfire.v1" in name for name in found)  # until somebody calls it
    assert found["etcd_server_proposals_failed_total"] == 2


def test_client_versions_are_counted_and_bounded(api: Api) -> None:
    for n in range(1000):
        api.services.counters.count_client("unary", f"3.{n}")
    name = 'etcd_server_client_requests_total{client_api_version="%s",type="unary"}'
    found = values(api)
    assert found[name % "3.0"] == 1
    assert found[name % "other"] == 1000 - 64


def test_any_registry_may_collect_it(api: Api) -> None:
    registry = CollectorRegistry()
    registry.register(metrics_of(api))
    assert registry.get_sample_value("etcd_server_has_leader") == 1


def test_peers_have_etcd_s_labels(api: Api) -> None:
    found = values(api)
    assert found['etcd_network_peer_sent_bytes_total{To="abc"}'] == 100
    assert found['etcd_network_peer_received_bytes_total{From="abc"}'] == 200
    assert found['etcd_network_peer_sent_failures_total{To="abc"}'] == 3
    both = f'{{Local="{MEMBER_ID:x}",Remote="abc"}}'
    assert found[f"etcd_network_disconnected_peers_total{both}"] == 4
    assert found[f"etcd_network_active_peers{both}"] == 1
    name = "etcd_network_peer_round_trip_time_seconds"
    assert found[f'{name}_bucket{{To="abc",le="0.0002"}}'] == 9
    assert found[f'{name}_count{{To="abc"}}'] == 10


def test_how_long_calls_take_is_told_where_it_is_measured(api: Api) -> None:
    counters = api.services.counters
    assert counters.method("/etcdserverpb.KV/Range").handling is None
    assert not any(name.startswith("grpc_server_handling") for name in values(api))
    counters.extensive = True
    put = counters.method("/etcdserverpb.KV/Put")
    put.started = 2
    assert put.handling is not None
    for seconds in (0.003, 0.2):
        put.handling.observe(seconds)
    labels = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    found = values(api)
    assert found[f'grpc_server_handling_seconds_bucket{{{labels},le="0.005"}}'] == 1
    assert found[f'grpc_server_handling_seconds_bucket{{{labels},le="+Inf"}}'] == 2
    assert found[f"grpc_server_handling_seconds_sum{{{labels}}}"] == pytest.approx(0.203)


# What etcd's dashboards and alert rules query (reference: etcd's contrib/mixin).
MIXIN = """
etcd_server_has_leader etcd_server_leader_changes_seen_total etcd_server_quota_backend_bytes
etcd_server_proposals_committed_total etcd_server_proposals_applied_total
etcd_server_proposals_pending etcd_server_proposals_failed_total
etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes
etcd_disk_wal_fsync_duration_seconds_bucket etcd_disk_backend_commit_duration_seconds_bucket
etcd_network_peer_round_trip_time_seconds_bucket etcd_network_peer_sent_bytes_total
etcd_network_peer_received_bytes_total etcd_network_peer_sent_failures_total
etcd_network_client_grpc_sent_bytes_total etcd_network_client_grpc_received_bytes_total
grpc_server_started_total grpc_server_handled_total grpc_server_handling_seconds_bucket
process_resident_memory_bytes etcd_debugging_mvcc_watcher_total
etcd_debugging_mvcc_watch_stream_total
"""


def test_everything_that_etcd_s_dashboards_query_is_there(api: Api) -> None:
    api.services.counters.extensive = True
    api.services.counters.method("/etcdserverpb.KV/Put").started = 1
    names = {name.partition("{")[0] for name in values(api)}
    assert set(MIXIN.split()) <= names


def test_snapshots_between_members_are_shown(api: Api) -> None:
    text = text_of(api)
    for line in (
        'chainfire_snapshots_total{direction="received",outcome="failure"} 4.0',
        'chainfire_snapshot_progress_bytes{direction="sent",of="done",peer="abc"} 7.0',
    ):
        assert line in text
