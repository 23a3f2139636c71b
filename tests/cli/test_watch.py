"""`chainfire watch`: a process that prints what happens, compared with etcdctl's words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chainfire.client import connect_sync
from tests.cli.conftest import Run
from tests.servers import ROOT, Server


@contextmanager
def watching(
    server: Server, *arguments: str, stdin: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "chainfire", f"--endpoints={server.target}", "watch", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as process:
        yield process
        process.kill()


def lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().rstrip("\n") for _ in range(count)]


def test_changes_are_printed_as_they_happen(etcd: Server) -> None:
    with connect_sync(etcd.url) as client:
        start = client.put("w/a", "1").revision
        with watching(etcd, "w/", "--prefix", f"--rev={start}", "--prev-kv") as process:
            assert lines(process, 3) == ["PUT", "w/a", "1"]
            client.put("w/a", "2")
            assert lines(process, 5) == ["PUT", "w/a", "1", "w/a", "2"]
            client.delete("w/a")
            assert lines(process, 5) == ["DELETE", "w/a", "2", "w/a", ""]


def test_a_command_is_run_for_each_change(etcd: Server) -> None:
    with connect_sync(etcd.url) as client:
        start = client.put("x", "y z").revision
    script = "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"
    with watching(etcd, "x", f"--rev={start}", "--", "sh", "-c", script) as process:
        assert lines(process, 1) == [f'{start} "PUT" "x" "y z"']


def test_typed_watches_are_told_beside_each_other(etcd: Server) -> None:
    with connect_sync(etcd.url) as client:
        start = client.put("t/1", "a").revision
        client.put("u", "b")
        with watching(etcd, "-i", stdin=subprocess.PIPE) as process:
            type_in(process, f"watch t/ --prefix --rev={start}")
            assert lines(process, 3) == ["PUT", "t/1", "a"]
            type_in(process, f"watch u --rev={start} -- sh -c 'echo $ETCD_WATCH_KEY'")
            assert lines(process, 1) == ['"u"']
            revision = client.put("t/2", "two words").revision
            assert lines(process, 3) == ["PUT", "t/2", "two words"]
            type_in(process, "progress")
            assert lines(process, 1) == [f"progress notify: {revision}"]


def type_in(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("", 3, "error reading watch request line: EOF"),
        ("watch", 3, "Invalid command watch (command type or key is not provided)"),
        ("put a b", 3, "Invalid command put a b (only support watch)"),
        ("progress", 3, "EOF"),
        ("watch a --", 128, "--"),
        ("watch a --bogus", 128, "--bogus"),
        ("watch a b --prefix", 128, "--prefix"),
        ("watch --prefix", 128, "key"),
    ],
)
def test_what_is_typed_wrongly_is_told(etcd: Server, typed: str, code: int, said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "chainfire", f"--endpoints={etcd.target}", "watch", "-i"],
        input=f"{typed}\n" if typed else "",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (code, "")
    assert said in ran.stderr


def test_a_watch_needs_a_key(run: Run) -> None:
    assert run("watch").code == 128


def test_a_compacted_start_and_odd_arguments_are_errors(etcd: Server, run: Run) -> None:
    with connect_sync(etcd.url) as client:
        revision = [client.put("c", "x").revision for _ in range(3)][-1]
        client.compact(revision)
    ran = run(f"--endpoints={etcd.target}", "watch", "c", f"--rev={revision - 1}")
    assert ran.code == 1
    assert "compacted" in ran.err
    ran = run(f"--endpoints={etcd.target}", "watch", "a", "b", "--prefix")
    assert ran.code == 128


def test_a_program_that_is_not_there_ends_it(etcd: Server, run: Run) -> None:
    with connect_sync(etcd.url) as client:
        start = client.put("p", "").revision
    ran = run(f"--endpoints={etcd.target}", "watch", "p", f"--rev={start}", "--", "/nowhere")
    assert (ran.code, "/nowhere" in ran.err) == (1, True)
