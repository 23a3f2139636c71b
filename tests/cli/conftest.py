"""Runs `chainfire …` in this process and reads what it wrote; a real etcd beside it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from chainfire.cli.main import main
from tests.peers import need_kind, need_tool
from tests.servers import Server, etcds


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: bytes
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        sys.stdout.flush()
        captured = capfdbinary.readouterr()
        return Ran(int(end.value.code or 0), captured.out, captured.err.decode())

    return run


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The oldest at hand: the system's, to which its etcdctl belongs."""
    kind = need_kind(next(reversed(etcds()), None), "etcd")
    with Server(kind, tmp_path_factory.mktemp("etcd") / "data") as server:
        yield server


@pytest.fixture
def endpoint(etcd: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """That of the etcd, which `chainfire …` asks."""
    monkeypatch.setenv("CHAINFIRE_ENDPOINTS", etcd.target)
    return etcd.target


def ran_etcdctl(
    endpoint: str, *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [need_tool("etcdctl"), f"--endpoints={endpoint}", *arguments],
        input=stdin,
        capture_output=True,
        env={"ETCDCTL_API": "3"},
        timeout=20,
        check=False,
    )
