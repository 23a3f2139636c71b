"""etcd's rules: its flags, variables and file; what is said about those without meaning here."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainfire.config import etcd
from chainfire.config.etcd_flags import FOREIGN
from chainfire.config.schema import BY_FLAG
from chainfire.errors import ConfigError

# Every flag of etcd 3.7, as its own help lists them.
MEMBER = """name data-dir wal-dir snapshot-count snapshot-catchup-entries heartbeat-interval
 election-timeout initial-election-tick-advance pre-vote listen-peer-urls listen-client-urls
 listen-client-http-urls max-wals quota-backend-bytes backend-batch-interval backend-batch-limit
 backend-bbolt-freelist-type memory-mlock bootstrap-defrag-threshold-megabytes max-txn-ops
 max-request-bytes max-concurrent-streams grpc-keepalive-min-time grpc-keepalive-interval
 grpc-keepalive-timeout socket-reuse-port socket-reuse-address enable-grpc-gateway
 raft-read-timeout raft-write-timeout feature-gates warning-apply-duration
 warning-unary-request-duration compaction-batch-limit compaction-sleep-interval
 watch-progress-notify-interval corrupt-check-time compact-hash-check-time max-learners
 downgrade-check-time max-snapshots"""
CLUSTERING = """initial-advertise-peer-urls initial-cluster initial-cluster-state
 initial-cluster-token advertise-client-urls strict-reconfig-check auto-compaction-retention
 auto-compaction-mode discovery-token discovery-endpoints discovery-dial-timeout
 discovery-request-timeout discovery-keepalive-time discovery-keepalive-timeout
 discovery-insecure-transport discovery-insecure-skip-tls-verify discovery-cert discovery-key
 discovery-cacert discovery-user discovery-password discovery-srv discovery-srv-name
 discovery-fallback discovery discovery-proxy"""
SECURITY = """cert-file key-file client-cert-file client-key-file client-cert-auth client-crl-file
 client-cert-allowed-hostname trusted-ca-file auto-tls peer-cert-file peer-key-file
 peer-client-cert-file peer-client-key-file peer-client-cert-auth peer-crl-file
 peer-trusted-ca-file peer-auto-tls peer-cert-allowed-cn peer-cert-allowed-hostname
 peer-skip-client-san-verification self-signed-cert-validity cipher-suites tls-min-version
 tls-max-version cors host-whitelist auth-token auth-token-ttl bcrypt-cost"""
OBSERVABILITY = """metrics listen-metrics-urls enable-pprof enable-distributed-tracing
 distributed-tracing-address distributed-tracing-service-name distributed-tracing-instance-id
 distributed-tracing-sampling-rate logger log-outputs log-level log-format enable-log-rotation
 log-rotation-config-json force-new-cluster unsafe-no-fsync"""
OLD = """experimental-initial-corrupt-check experimental-corrupt-check-time
 experimental-compact-hash-check-enabled experimental-compact-hash-check-time
 experimental-enable-lease-checkpoint experimental-enable-lease-checkpoint-persist
 experimental-watch-progress-notify-interval experimental-warning-apply-duration
 experimental-warning-unary-request-duration experimental-memory-mlock
 experimental-bootstrap-defrag-threshold-megabytes experimental-stop-grpc-service-on-defrag
 experimental-compaction-batch-limit experimental-compaction-sleep-interval
 experimental-enable-distributed-tracing experimental-distributed-tracing-address
 experimental-distributed-tracing-service-name experimental-distributed-tracing-instance-id
 experimental-distributed-tracing-sampling-rate experimental-max-learners
 experimental-downgrade-check-time experimental-snapshot-catchup-entries
 experimental-txn-mode-write-with-shared-buffer experimental-set-member-localaddr
 experimental-wait-cluster-ready-timeout experimental-peer-skip-client-san-verification
 experimental-backend-bbolt-freelist-type experimental-enable-v2v3 enable-v2 debug
 log-package-levels proxy-dial-timeout v2-deprecation"""
ALL_FLAGS = f"{MEMBER} {CLUSTERING} {SECURITY} {OBSERVABILITY} {OLD}".split()
REFUSED = {"discovery", "discovery-token", "discovery-endpoints", "discovery-srv"}
REFUSED |= {"peer-client-cert-file", "peer-client-key-file"}


def sample(flag: str) -> str:
    """A value that asks for something that would not happen anyway."""
    if flag == "feature-gates":
        return "CompactHashCheck=true"
    foreign = FOREIGN[etcd.plain_name(flag)]
    if foreign.is_bool:
        return "false" if "true" in foreign.harmless else "true"
    return "7"


def problems_of(arguments: list[str], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        etcd.load(arguments, environ or {})
    return str(caught.value)


@pytest.mark.parametrize("flag", ALL_FLAGS)
def test_every_flag_of_etcd_is_an_option_or_warned_about_or_refused(flag: str) -> None:
    if etcd.plain_name(flag) in BY_FLAG:
        return
    if flag in REFUSED:
        assert f"--{flag} = " in problems_of([f"--{flag}={sample(flag)}"])
        return
    warnings = etcd.load([f"--{flag}={sample(flag)}"], {}).warnings
    assert any(f"--{flag}" in warning and "no effect" in warning for warning in warnings), warnings


def test_asking_for_what_happens_anyway_is_passed_over() -> None:
    arguments = ["--logger=zap", "--log-outputs=stderr", "--auto-tls=false", "--memory-mlock=0"]
    arguments += ["--strict-reconfig-check", "--discovery-srv=", "--force-new-cluster=false"]
    assert etcd.load(arguments, {}).warnings == ()


def test_defaults_are_etcds() -> None:
    config = etcd.load([], {}).config
    assert config.member.data_dir == "default.etcd"
    assert config.logging.log_format == "json"
    assert etcd.load(["--name", "s1"], {}).config.member.data_dir == "s1.etcd"


def test_flags_in_both_notations_and_with_one_dash() -> None:
    arguments = ["--name", "a", "--pre-vote", "-snapshot-count=5", "--grpc-keepalive-timeout", "3s"]
    config = etcd.load(arguments, {}).config
    assert (config.member.name, config.raft.pre_vote, config.raft.snapshot_count) == ("a", True, 5)
    assert config.grpc.grpc_keepalive_timeout_ms == 3000
    assert not etcd.load(["--pre-vote=false"], {}).config.raft.pre_vote


def test_a_boolean_flag_does_not_take_the_next_argument() -> None:
    assert "true: unexpected argument" in problems_of(["--pre-vote", "true"])


def test_a_flag_and_its_variable_together_are_a_conflict() -> None:
    text = problems_of(["--name=a"], {"ETCD_NAME": "b"})
    assert "conflicting environment variable ETCD_NAME" in text


def test_variables_count_where_no_flag_does() -> None:
    loaded = etcd.load(["--name=a"], {"ETCD_ELECTION_TIMEOUT": "2000", "ETCD_WAL_DIR": "/w"})
    assert loaded.config.raft.election_timeout_ms == 2000
    assert loaded.origins["raft.election_timeout_ms"] == "environment ETCD_ELECTION_TIMEOUT"
    assert loaded.warnings == ("ETCD_WAL_DIR has no effect: log and state share --data-dir",)


def test_an_unknown_variable_is_a_warning() -> None:
    warnings = etcd.load([], {"ETCD_NAMES": "x", "ETCDCTL_API": "3"}).warnings
    assert warnings == (
        "unrecognized environment variable ETCD_NAMES is ignored; did you mean ETCD_NAME?",
    )


def test_an_unknown_flag_names_the_nearest() -> None:
    assert "--data-dri: unknown flag; did you mean --data-dir?" in problems_of(["--data-dri=x"])


def test_a_file_makes_everything_else_ignored(tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text(
        """
name: 'from-file'
heartbeat-interval: 50
election-timeout: 300
grpc-keepalive-interval: 30000000000
quota-backend-bytes: 0
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
advertise-client-urls: http://127.0.0.1:1
auto-compaction-retention: 1
initial-cluster:
pre-vote: false
log-outputs: [stderr]
client-transport-security:
  cert-file:
  client-cert-auth: false
"""
    )
    loaded = etcd.load(["--config-file", str(path), "--name=flag"], {"ETCD_NAME": "variable"})
    config = loaded.config
    assert config.member.name == "from-file"
    assert config.raft.heartbeat_interval_ms == 50
    assert config.grpc.grpc_keepalive_interval_ms == 30_000
    assert len(config.network.listen_client_urls) == 2
    assert config.compaction.keep_period_ms == 3_600_000
    assert not config.raft.pre_vote
    assert [w for w in loaded.warnings if "ignored" not in w] == []
    assert len(loaded.warnings) == 1


def test_the_file_may_be_json_and_named_by_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "etcd.json"
    path.write_text('{"name": "j", "max-txn-ops": 5}')
    loaded = etcd.load([], {"ETCD_CONFIG_FILE": str(path)})
    assert (loaded.config.member.name, loaded.config.limits.max_txn_ops) == ("j", 5)
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc-keepalive-timeout: 5s", "must be a whole number of nanoseconds"),
        ("max-txn-ops: x", "must be a whole number"),
        ("discovery-config: {endpoints: [a]}", "discovery is not there yet"),
        ("proxy: 'on'", "the v2 API is gone"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("socket-options: 1", "must be a mapping"),
        ("feature-gates: Nope=true", "unrecognized feature gate 'Nope'"),
    ],
)
def test_a_wrong_file_names_the_key(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text(text)
    assert expected in problems_of(["--config-file", str(path)])


def test_what_a_file_asks_for_in_vain_is_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text("socket-options: {reuse-port: true}\nnam: x\nwal-dir: /w\n")
    warnings = etcd.load(["--config-file", str(path)], {}).warnings
    assert [w.split(": ", 1)[1] for w in warnings] == [
        "socket-options.reuse-port has no effect: not there yet",
        "nam: unknown key is ignored; did you mean name?",
        "wal-dir has no effect: log and state share --data-dir",
    ]


def test_a_file_s_security_blocks_are_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text(
        """
client-transport-security:
  cert-file: /c
  key-file: /k
  trusted-ca-file: /a
  client-cert-auth: true
  auto-tsl: true
peer-transport-security: {cert-file: /pc, key-file: /pk, auto-tls: true}
"""
    )
    loaded = etcd.load(["--config-file", str(path)], {})
    tls, peer = loaded.config.tls, loaded.config.peer_tls
    assert (tls.cert_file, tls.key_file, tls.trusted_ca_file) == ("/c", "/k", "/a")
    assert tls.client_cert_auth
    assert (peer.cert_file, peer.key_file, peer.auto_tls) == ("/pc", "/pk", True)
    [warning] = loaded.warnings
    assert warning.endswith(
        "client-transport-security.auto-tsl: unknown key is ignored; did you mean auto-tls?"
    )
    path.write_text(
        "peer-transport-security: {allowed-cn: a, trusted-ca-file: /a}\n"
        "client-transport-security: {allowed-hostname: b, trusted-ca-file: /a}"
    )
    config = etcd.load(["--config-file", str(path)], {}).config
    assert config.peer_tls.cert_allowed_cn == ("a",)
    assert config.tls.client_cert_allowed_hostname == ("b",)


@pytest.mark.parametrize(
    "flag",
    [
        *("client-crl-file", "client-cert-allowed-hostname", "peer-crl-file"),
        *("peer-cert-allowed-cn", "peer-cert-allowed-hostname"),
    ],
)
def test_what_is_asked_of_certificates_needs_an_authority_that_signs_them(flag: str) -> None:
    ca = "peer-trusted-ca-file" if flag.startswith("peer") else "trusted-ca-file"
    assert f"--{ca}: required with --{flag}" in problems_of([f"--{flag}=a"])
    assert etcd.load([f"--{flag}=a", f"--{ca}=/a"], {}).config


def test_names_of_members_are_common_names_or_host_names() -> None:
    flags = ["--peer-trusted-ca-file=/a", "--peer-cert-allowed-cn=a"]
    flags.append("--peer-cert-allowed-hostname=b")
    assert "cannot go with --peer-cert-allowed-cn" in problems_of(flags)


def test_no_warning_shows_a_password() -> None:
    assert "geheim" not in str(etcd.load(["--discovery-password=geheim"], {}).warnings)
