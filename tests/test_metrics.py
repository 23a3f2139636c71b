"""What the metrics endpoint tells; tests/compat/test_metrics.py compares it with a real etcd's."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from chainfire.errors import Code
from chainfire.metrics import Metrics
from chainfire.node.status import (
    SNAPSHOT_BOUNDS_SECONDS,
    CompactionStatistics,
    Durations,
    NodeStatistics,
    PeerStatistics,
    SnapshotStatistics,
    TransferCounts,
    TransferStatistics,
    TransportStatistics,
)
from chainfire.proto.cluster_pb2 import MemberPromoteRequest
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest
from chainfire.proto.lease_pb2 import LeaseGrantRequest
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from tests.api.fake_node import MEMBER_ID, Api


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
    times = Durations(SNAPSHOT_BOUNDS_SECONDS, (1, 2, *[0] * 9), 0.4)
    snapshots = SnapshotStatistics(
        sending=(TransferStatistics(0xABC, bytes_total=100, bytes_done=7),),
        sent=(TransferCounts(0xABC, 5, times),),
        received=(TransferCounts(0xABC, 4, times), TransferCounts(0xDEF, 0, times)),
    )
    few = Durations((0.1, 0.2), (3, 2, 1), 1.5)
    compaction = CompactionStatistics(
        removed_versions=12,
        finished_at=1_000_000_000,
        slices=few,
        rounds=few,
        defragments=few,
        is_defragmenting=True,
    )

    def statistics() -> NodeStatistics:
        backend = api.node.backend.statistics()
        return NodeStatistics(
            leader_changes=2,
            late_heartbeats=9,
            proposals_pending=3,
            renewals_kept=12,
            slow_turns=4,
            reads_timed_out=10,
            slow_read_rounds=11,
            applies=few,
            archives=few,
            compaction=compaction,
            log_syncs=Durations((0.001, 0.002), (5, 2, 1), 0.5),
            state_syncs=Durations((0.001, 0.002), (1, 1, 1), 0.25),
            scrub_passes=6,
            tick_lateness_seconds_max=0.25,
            collector_pause_seconds_max=0.003,
            disk_free_bytes=10**9,
            damaged_bytes=10**6,
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


def test_compactions_are_timed_in_etcd_s_units(api: Api) -> None:
    found = values(api)
    name = "etcd_debugging_mvcc_db_compaction"
    assert found[f"{name}_keys_total"] == 12
    assert found[f"{name}_last"] == 1_000_000_000
    assert found[f'{name}_total_duration_milliseconds_bucket{{le="200"}}'] == 5
    assert found[f"{name}_pause_duration_milliseconds_sum"] == 1500
    assert found["etcd_disk_defrag_inflight"] == 1


def test_leases_are_counted_by_their_ttl(api: Api) -> None:
    for ttl in (1, 2, 3, 1_048_576, 1_048_577, 9_000_000_000):
        api.do("Lease.LeaseGrant", LeaseGrantRequest(TTL=ttl))
    found = values(api)
    # No lease is shorter than two seconds.
    for bound, number in (("1", 0), ("2", 2), ("4", 3), ("1.048576e+06", 4), ("+Inf", 6)):
        assert found[f'etcd_debugging_lease_ttl_total_bucket{{le="{bound}"}}'] == number
    assert found["etcd_debugging_lease_ttl_total_sum"] == 9_002_097_160


def test_promotions_that_fail_are_counted_by_their_reason(api: Api) -> None:
    api.do("Cluster.MemberPromote", MemberPromoteRequest(ID=77))
    reason = '{Reason="etcdserver: member not found"}'
    assert f"etcd_server_learner_promote_failures{reason} 1.0\n" in text_of(api)


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
        'etcd_network_snapshot_send_success{To="abc"} 3.0',
        'etcd_network_snapshot_send_failures{To="abc"} 5.0',
        'etcd_network_snapshot_send_inflights_total{To="abc"} 1.0',
        'etcd_network_snapshot_send_total_duration_seconds_sum{To="abc"} 0.4',
        'etcd_network_snapshot_receive_failures{From="abc"} 4.0',
        'etcd_network_snapshot_receive_total_duration_seconds_count{From="def"} 3.0',
        "etcd_snap_db_save_total_duration_seconds_count 6.0",
        "# TYPE etcd_network_snapshot_send_success counter",
        'chainfire_snapshot_progress_bytes{direction="sent",of="done",peer="abc"} 7.0',
    ):
        assert line in text
