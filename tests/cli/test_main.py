"""The command line itself: help, versions, configuration commands, and the way to the server."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import chainfire.server
from chainfire.cli.main import ALIASES, COMMANDS
from chainfire.config import Config
from chainfire.version import API_VERSION, VERSION
from tests.cli.conftest import Run


def test_versions(run: Run) -> None:
    lines = run("version").out.decode().splitlines()
    assert lines[:2] == [f"chainfire version: {VERSION}", f"API version: {API_VERSION}"]
    assert lines[2].split(";")[0] in ("door: native", "door: grpcio")
    assert lines[3].split(";")[0] in ("core: compiled", "core: interpreted")
    assert len(lines) == 4
    assert run("--version").out == run("version").out


def test_etcds_version_is_four_lines(run: Run) -> None:
    lines = run("etcd", "--version").out.decode().splitlines()
    assert lines[0] == "etcd Version: 3.7.1"
    heads = ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]
    assert [line.split(": ")[0] for line in lines] == heads
    assert platform.python_version() in lines[2]


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_every_command_has_a_help_with_examples(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert b"Usage: chainfire" in done.out
    assert b"xample" in done.out or name in ("version", "config")


def test_the_help_of_serve_lists_every_flag_with_its_default(run: Run) -> None:
    text = run("serve", "-h").out.decode()
    assert "--election-timeout ms" in text
    assert "[default: http://localhost:2379]" in text


def test_config_example_check_and_print(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(run("config", "example").out)
    assert run("config", "check", str(path)).out == b"the configuration is valid\n"
    printed = run("config", "print", str(path), "--name=n1").out.decode()
    assert 'name = "n1"' in printed
    assert "# flag --name" in printed


def test_config_check_lists_every_problem(run: Run) -> None:
    done = run("config", "check", "--nam=x", "--snapshot-count=0")
    assert done.code == 2
    assert "2 problems" in done.err
    assert "did you mean --name?" in done.err


@pytest.mark.parametrize("command", ["serve", "etcd"])
def test_a_wrong_flag_ends_the_start_with_a_message(run: Run, command: str) -> None:
    done = run(command, "--data-dri=/x")
    assert done.code == 2
    assert "--data-dri: unknown flag; did you mean --data-dir?" in done.err


def test_etcds_proxies_are_refused(run: Run) -> None:
    done = run("etcd", "grpc-proxy", "start")
    assert done.code == 128
    assert "has no counterpart here" in done.err


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Configurations that a server was started with; the server itself is left out."""
    configs: list[Config] = []

    def run(config: Config) -> int:
        configs.append(config)
        return 7

    monkeypatch.setattr(chainfire.server, "run", run, raising=False)
    return configs


def test_serve_and_etcd_hand_the_configuration_to_the_server(
    run: Run, started: list[Config]
) -> None:
    assert run("serve", "--name", "a", "--log-level=error").code == 7
    done = run("etcd", "--name=b", "--log-level", "warn", "--wal-dir=/w")
    assert done.code == 7
    assert [config.member.data_dir for config in started] == ["a.chainfire", "b.etcd"]
    assert '"level":"warn"' in done.err
    assert "--wal-dir has no effect: log and state share --data-dir" in done.err


def test_python_m_chainfire_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chainfire", "version"],
        capture_output=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith(b"chainfire version: ")


def test_version_and_help_import_no_grpc_no_asyncio_no_protobuf() -> None:
    code = (
        "import sys, chainfire.cli.main as m\n"
        "try: m.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'asyncio', 'google.protobuf', 'chainfire.config'}\n"
        "print(*sorted(heavy & {*sys.modules}))"
    )
    for arguments in (["version"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            timeout=30,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == b""
