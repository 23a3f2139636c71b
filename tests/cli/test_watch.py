"""`chainfire watch`: a process that prints what happens, compared with etcdctl's words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from chainfire.client import connect_sync
from tests.cli.conftest import Run
from tests.servers import ROOT, Server


@contextmanager
def watching(server: Server, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "chainfire", f"--endpoints={server.target}", "watch", *arguments],
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
