"""lease, lock, elect: beside etcdctl, on the same server; as processes of their own."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.conftest import Run, ran_etcdctl
from tests.peers import need_tool

SECONDS = 30
GRANTED = re.compile(rb"lease ([0-9a-f]{16}) granted with TTL\(100s\)\n")


@pytest.fixture(autouse=True)
def endpoint(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of every process that a test starts."""
    monkeypatch.setenv("ETCDCTL_API", "3")
    return endpoint


def test_lease_commands_print_what_etcdctl_prints(run: Run, endpoint: str) -> None:
    granted = GRANTED.fullmatch(run("lease", "grant", "100").out)
    assert granted is not None
    lease = granted[1].decode()
    assert run("put", "k", "v", f"--lease={lease}").out == b"OK\n"
    for command in (
        ("lease", "list"),
        ("lease", "keep-alive", "--once", lease),
        ("lease", "timetolive", lease),
        ("lease", "timetolive", lease, "--keys"),
    ):
        ours, theirs = run(*command).out, ran_etcdctl(endpoint, *command).stdout
        assert re.sub(rb"remaining.\d+", b"", ours) == re.sub(rb"remaining.\d+", b"", theirs)
    assert run("lease", "revoke", lease).out == b"lease %s revoked\n" % lease.encode()
    for command in (
        ("lease", "list"),
        ("lease", "keep-alive", "--once", lease),
        ("lease", "keep-alive", lease),
        ("lease", "timetolive", lease),
    ):
        assert run(*command).out == ran_etcdctl(endpoint, *command).stdout
    gone = run("lease", "revoke", lease)
    assert (gone.code, gone.err) == (1, "Error: etcdserver: requested lease not found\n")
    assert run("get", "k").out == b""


def test_leases_as_json(run: Run) -> None:
    reply = json.loads(run("lease", "grant", "100", "-w", "json").out)
    assert reply["TTL"] == 100
    found = json.loads(run("lease", "timetolive", f"{reply['ID']:x}", "-w", "json").out)
    assert found["grantedTTL"] == 100
    run("lease", "revoke", f"{reply['ID']:x}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("lease", "grant", "x"),
        ("lease", "grant"),
        ("lease", "grant", "60", "-w", "table"),
        ("lease", "revoke", "xyz"),
        ("lease", "revoke", "1" * 17),
        ("lease", "timetolive"),
        ("lock",),
        ("lock", "--ttl=0", "l"),
        ("elect", "e"),
        ("elect", "-l", "e", "value"),
    ],
)
def test_bad_arguments_are_named(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == 128


@pytest.mark.parametrize("ttl", ["inf", "nan"])
def test_a_ttl_without_an_end_is_refused(run: Run, ttl: str) -> None:
    assert run("lease", "grant", ttl).code == 3


# ── processes ───────────────────────────────────────────────────────────────


class Process:
    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chainfire", *arguments], stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))

    def line(self) -> str:
        return self._lines.get(timeout=SECONDS)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    opened = Process(*arguments)
    try:
        yield opened
    finally:
        opened.end(signal.SIGKILL)


def until_in_line(endpoint: str, name: str, count: int) -> None:
    line = ("get", f"{name}/", "--prefix", "--keys-only")
    while len(ran_etcdctl(endpoint, *line).stdout.split()) != count:
        pass


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_lock_is_handed_over_when_its_holder_is_interrupted(
    endpoint: str, how: signal.Signals
) -> None:
    name = f"hand{how.value}"
    with process("lock", name) as first:
        assert re.fullmatch(f"{name}/[0-9a-f]+", first.line())
        with process("lock", name) as second:
            until_in_line(endpoint, name, 2)
            assert first.end(how) == 5
            assert second.line().startswith(f"{name}/")


def test_a_lock_is_free_after_the_ttl_of_a_killed_holder() -> None:
    with process("lock", "--ttl=2", "dies") as first:
        first.line()
        with process("lock", "dies") as second:
            first.end(signal.SIGKILL)
            assert second.line().startswith("dies/")


def test_it_stands_in_one_line_with_etcdctl(endpoint: str) -> None:
    with process("lock", "mixed") as ours:
        ours.line()
        command = [need_tool("etcdctl"), f"--endpoints={endpoint}", "lock", "mixed"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as theirs:
            assert theirs.stdout is not None
            try:
                until_in_line(endpoint, "mixed", 2)
                ours.end(signal.SIGINT)
                assert theirs.stdout.readline().startswith(b"mixed/")
            finally:
                theirs.kill()


def test_a_program_runs_under_the_lock(run: Run, endpoint: str) -> None:
    program = ("sh", "-c", 'echo "$ETCD_LOCK_KEY $ETCD_LOCK_REV"; exit 7')
    ran = run("lock", "program", *program)
    assert ran.code == 7
    assert re.fullmatch(rb"program/[0-9a-f]+ \d+\n", ran.out)
    assert ran_etcdctl(endpoint, "get", "program/", "--prefix").stdout == b""
    assert run("lock", "program", "no-such-program").code == 126


def test_who_is_elected_is_told_and_heard(endpoint: str) -> None:
    with process("elect", "board", "one") as first, process("elect", "-l", "board") as heard:
        key = first.line()
        assert first.line() == "one"
        assert (heard.line(), heard.line()) == (key, "one")
        with process("elect", "board", "two") as second:
            until_in_line(endpoint, "board", 2)
            first.end(signal.SIGINT)
            other = second.line()
            assert second.line() == "two"
            assert (heard.line(), heard.line()) == (other, "two")
