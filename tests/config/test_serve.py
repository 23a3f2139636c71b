"""Our own rules: file, environment, flags; unknown names; relations; all problems at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from chainfire.config import Config, serve, show
from chainfire.config.schema import OPTIONS
from chainfire.errors import ConfigError


def problems_of(arguments: list[str], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        serve.load(arguments, environ or {})
    return str(caught.value)


def test_each_source_overrides_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "chainfire.toml"
    path.write_text('[member]\nname = "file"\n[raft]\nsnapshot_count = 1\n[limits]\nmax_txn_ops=9')
    environ = {"CHAINFIRE_NAME": "environment", "CHAINFIRE_SNAPSHOT_COUNT": "2"}
    loaded = serve.load(["--config-file", str(path), "--name=flag"], environ)
    config = loaded.config
    assert (config.member.name, config.raft.snapshot_count, config.limits.max_txn_ops) == (
        "flag",
        2,
        9,
    )
    assert loaded.origins["member.name"] == "flag --name"
    assert loaded.origins["raft.snapshot_count"] == "environment CHAINFIRE_SNAPSHOT_COUNT"
    assert loaded.origins["limits.max_txn_ops"] == f"file {path}"
    assert loaded.origins["member.data_dir"] == "derived from member.name"


def test_nothing_given_is_the_default_configuration() -> None:
    assert serve.load([], {"HOME": "/root"}).config == Config()


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[member]\nname = "x"\n')
    assert serve.load([], {"CHAINFIRE_CONFIG_FILE": str(path)}).config.member.data_dir == (
        "x.chainfire"
    )


def test_an_empty_data_directory_is_none_given() -> None:
    assert serve.load(["--data-dir="], {}).config.member.data_dir == "default.chainfire"
    assert serve.load(["--name=x"], {"CHAINFIRE_DATA_DIR": ""}).config.member.data_dir == (
        "x.chainfire"
    )


def test_founding_members_follow_name_and_peer_urls() -> None:
    config = serve.load(
        ["--name=n1", "--initial-advertise-peer-urls=http://127.0.0.1:7"], {}
    ).config
    assert dict(config.cluster.initial_cluster)["n1"] == config.cluster.initial_advertise_peer_urls


def test_all_problems_are_listed_at_once() -> None:
    text = problems_of(["--snapshot-count=x", "--elction-timeout=1", "--log-level=loud"])
    assert text.startswith("3 problems in the configuration:")
    assert "--snapshot-count = 'x': must be a whole number from 1" in text
    assert "--elction-timeout: unknown flag; did you mean --election-timeout?" in text
    assert "--log-level = 'loud': must be one of debug, info, warn, error, panic, fatal" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--election-timeout=499"], "must be at least 5 × heartbeat-interval, that is 500 ms"),
        (["--election-timeout=50001"], "must be at most 50000 ms"),
        (["--snapshot-bytes-per-second=1000"], "must be 0 or at least 65536"),
        (["--heartbeat-interval=0"], "must be at least 1 ms"),
        (["--listen-client-urls=http://127.0.0.1:1"], "--advertise-client-urls: required when"),
        (
            [
                "--listen-client-urls=http://example.org:1",
                "--advertise-client-urls=http://a:1",
            ],
            "expected an IP address or localhost",
        ),
        (["--listen-metrics-urls=http://:1"], "expected an IP address or localhost"),
        (["--listen-metrics-urls=http://localhost:2379"], "--listen-client-urls listens there too"),
        (["--listen-peer-urls=ftp://localhost:1"], "must be http, https, unix or unixs"),
        (["--listen-peer-urls=http://localhost"], 'does not have the form "host:port"'),
        (["--listen-peer-urls=http://localhost:1/x"], "must not contain a path"),
        (["--listen-peer-urls=https://localhost:1"], "needs --peer-cert-file and --peer-key-file"),
        (["--listen-metrics-urls=https://localhost:1"], "needs --cert-file and --key-file"),
        (["--cert-file=c"], "--key-file: required with --cert-file"),
        (["--peer-key-file=k"], "--peer-cert-file: required with --peer-key-file"),
        (["--client-cert-auth"], "--trusted-ca-file: required with --client-cert-auth"),
        (["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "must not be above"),
        (["--tls-min-version=TLS1.1"], "must be one of TLS1.2, TLS1.3"),
        (["--tls-min-version=TLS1.3", "--cipher-suites=x"], "when only TLS1.3 is enabled"),
        (["--advertise-client-urls="], "at least one URL is needed"),
        (["--initial-cluster=b=http://localhost:2380"], "must contain this member, 'default'"),
        (["--initial-cluster=default=http://localhost:9"], "--initial-advertise-peer-urls"),
        (["--initial-cluster=default"], "must be a list of name=url"),
        (["--name="], "must not be empty"),
        (["--auto-compaction-retention=soon"], "must be a duration"),
        (["--auto-compaction-retention=5m", "--auto-compaction-mode=revision"], "whole number"),
        (["--wal-dir=/x"], "`chainfire etcd` accepts it"),
        (["--name"], "a value is missing behind it"),
        (["stray", "--name=a"], "stray: unexpected argument"),
        (["--pre-vote=maybe"], "must be true or false"),
        (["--cache-bytes=1KB"], "must be a whole number from 8388608"),
        (["--config-file=/nowhere.toml"], "cannot be read"),
    ],
)
def test_a_wrong_command_line_says_what_is_allowed(arguments: list[str], expected: str) -> None:
    assert expected in problems_of(arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[raft]\nsnapshot_cuont = 1", "raft.snapshot_cuont: unknown key; did you mean"),
        ("[raft]\nname = 'x'", "unknown key; did you mean member.name?"),
        ("[raft]\nelection-timeout = 1", "did you mean raft.election_timeout_ms?"),
        ("[rafd]\n", "[rafd]: unknown section; did you mean raft?"),
        ("raft = 1", "must be a table"),
        ("[raft]\nsnapshot_count = '5'", "must be a whole number"),
        ("[raft]\npre_vote = 1", "must be true or false"),
        ("[raft", "is not TOML"),
        ("[network]\nlisten_client_urls = [1]", "must be a list of URLs"),
    ],
)
def test_a_wrong_file_names_the_key(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert expected in problems_of(["--config-file", str(path)])


def test_units_may_be_written_out(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[raft]\nheartbeat_interval_ms = "50ms"\n[limits]\nmax_request_bytes = "2MiB"')
    config = serve.load(["--config-file", str(path), "--election-timeout", "1500"], {}).config
    assert config.raft.heartbeat_interval_ms == 50
    assert config.raft.election_timeout_ms == 1500
    assert config.limits.max_request_bytes == 2 * 1024**2


def test_unknown_variables_are_errors_but_not_those_of_client_and_kubernetes() -> None:
    assert "CHAINFIRE_NAMES: unknown variable; did you mean CHAINFIRE_NAME?" in problems_of(
        [], {"CHAINFIRE_NAMES": "x"}
    )
    serve.load(
        [],
        {
            "CHAINFIRE_ENDPOINTS": "http://a:1",
            "CHAINFIRE_PORT": "tcp://10.0.0.1:2379",
            "CHAINFIRE_SERVICE_HOST": "10.0.0.1",
            "CHAINFIRE_CLIENT_PORT_2379_TCP_ADDR": "10.0.0.1",
        },
    )


def test_every_option_has_its_own_flag_and_a_text() -> None:
    assert len({option.flag for option in OPTIONS}) == len(OPTIONS)
    assert all(option.doc for option in OPTIONS)


def test_every_default_is_a_value_its_kind_reads_back() -> None:
    for option in OPTIONS:
        written = tomllib.loads(f"x = {option.kind.show(option.default)}")["x"]
        assert option.kind.read(written) == option.default, option.key


def test_the_example_file_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(show.example())
    assert serve.load([f"--config-file={path}"], {}).config == Config()
    uncommented = [
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in show.example().splitlines()
    ]
    path.write_text("\n".join(uncommented))
    assert serve.load([f"--config-file={path}"], {}).config == Config()


def test_print_shows_a_file_that_gives_the_same_configuration(tmp_path: Path) -> None:
    loaded = serve.load(["--name=a", "--quota-backend-bytes=-1", "--grpc-keepalive-timeout=3s"], {})
    path = tmp_path / "printed.toml"
    path.write_text(show.effective(loaded.config, loaded.origins))
    assert serve.load([f"--config-file={path}"], {}).config == loaded.config
    assert "# flag --name" in path.read_text()


@pytest.mark.parametrize(
    ("mode", "retention", "period_ms", "revisions"),
    [
        ("periodic", "0", 0, 0),
        ("periodic", "2", 7_200_000, 0),
        ("periodic", "30m", 1_800_000, 0),
        ("revision", "1000", 0, 1000),
    ],
)
def test_retention_depends_on_the_mode(
    mode: str, retention: str, period_ms: int, revisions: int
) -> None:
    compaction = serve.load(
        [f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={retention}"], {}
    ).config.compaction
    assert (compaction.keep_period_ms, compaction.keep_revisions) == (period_ms, revisions)
