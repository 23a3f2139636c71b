"""`chainfire snapshot`: the restore drill, with etcdctl as the one who saves too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.compat.ctl import Ctl
from tests.peers import need_chainfire, need_tool
from tests.servers import Server, free_port

KEYS = 300
ATTEMPTS_MAX = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(need_chainfire(), tmp_path_factory.mktemp("server") / "data") as made:
        ctl = Ctl(need_tool("etcdctl"), made.target)
        pairs = "".join(f"put key{i:04d} value{i}\n" for i in range(KEYS))
        for start in range(0, KEYS, 100):
            lines = "\n".join(pairs.splitlines()[start : start + 100])
            assert ctl("txn", stdin=f"\n{lines}\n\n\n").code == 0
        ctl.raw("put key0000 changed")
        ctl.raw("del key0001")
        yield made


@pytest.fixture
def saved(server: Server, tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "backup.snap"
    ran = run("snapshot", "save", str(path), f"--endpoints={server.target}")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"Snapshot saved at {path}\n".encode())
    return path


def facts(run: Run, path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(run("snapshot", "status", str(path), "-w", "json").out)
    return found


def restored(run: Run, path: Path, into: Path, *options: str) -> Server:
    """A server on what was restored under a new token, not started yet."""
    server = Server(need_chainfire(), into, flags=("--initial-cluster-token=drill",))
    server.port, server.peer_port = free_port(), free_port()
    peer = f"http://127.0.0.1:{server.peer_port}"
    ran = run(
        *("snapshot", "restore", str(path), f"--data-dir={into}", "--name=test"),
        *(f"--initial-cluster=test={peer}", f"--initial-advertise-peer-urls={peer}"),
        *("--initial-cluster-token=drill", *options),
    )
    assert ran.code == 0, ran.err
    return server


def contents(server: Server, *options: str) -> list[dict[str, object]]:
    reply = json.loads(Ctl(need_tool("etcdctl"), server.target).raw("get --prefix '' -w json"))
    found: list[dict[str, object]] = reply["kvs"]
    return found


def test_the_drill_what_etcdctl_has_saved_serves_again(
    server: Server, tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "etcdctl.snap"
    ctl = Ctl(need_tool("etcdctl"), server.target)
    assert "saved" in ctl.raw(f"snapshot save {path}").lower()
    before = contents(server)
    status = facts(run, path)
    assert (status["totalKey"], status["totalSize"]) == (KEYS - 1, path.stat().st_size)
    with restored(run, path, tmp_path / "new").start() as again:
        assert contents(again) == before
        new = Ctl(need_tool("etcdctl"), again.target)
        assert new.raw("get key0000 --rev=2").split()  # history is there too
        new.raw("put after restore")  # and no command id of the old life is in the way
        assert (
            next(row["mod_revision"] for row in contents(again)) == int(str(status["revision"])) + 1
        )
        ids = [json.loads(c.raw("member list -w json"))["header"] for c in (ctl, new)]
        assert ids[0]["cluster_id"] != ids[1]["cluster_id"]
        again.stop()
        again.start()  # a restored member restarts like any other
        assert contents(again)[0]["key"] == "YWZ0ZXI="


def test_a_bumped_revision_makes_old_watchers_notice(saved: Path, tmp_path: Path, run: Run) -> None:
    revision = int(str(facts(run, saved)["revision"]))
    options = ("--bump-revision=1000", "--mark-compacted")
    with restored(run, saved, tmp_path / "new", *options).start() as again:
        ctl = Ctl(need_tool("etcdctl"), again.target)
        assert "compacted" in ctl(f"get key0000 --rev={revision}").error
        assert json.loads(ctl.raw("put a b -w json"))["header"]["revision"] == revision + 1001
        assert len(contents(again)) == KEYS


@pytest.mark.parametrize("at", [100, -100])
def test_a_damaged_file_is_refused(saved: Path, at: int, tmp_path: Path, run: Run) -> None:
    data = bytearray(saved.read_bytes())
    data[at] ^= 1
    saved.write_bytes(data)
    for arguments in (("status",), ("restore", f"--data-dir={tmp_path / 'new'}")):
        ran = run("snapshot", arguments[0], str(saved), *arguments[1:])
        assert ran.code == 1
        assert "bad snapshot file" in ran.err
    assert not (tmp_path / "new").exists()


def test_a_member_whose_state_is_damaged_saves_nothing(tmp_path: Path, run: Run) -> None:
    """Whoever notices first, the archive's reader or the member itself, which then stops."""
    data, path = tmp_path / "data", tmp_path / "backup.snap"
    with Server(need_chainfire(), data) as server:
        ctl = Ctl(need_tool("etcdctl"), server.target)
        assert ctl("put key value").code == 0
        assert ctl("defrag").code == 0  # from the memtable into a table
        # Until it hits: a compaction under way may replace what was damaged, from its cache.
        for attempt in range(ATTEMPTS_MAX):
            for table in data.glob("state-*/*.sst"):
                flip_a_bit(table, attempt)
            ran = run("snapshot", "save", str(path), f"--endpoints={server.target}")
            if ran.code != 0:
                break
            path.unlink()
        assert ran.code != 0
        assert not path.exists()


def flip_a_bit(file: Path, off_the_middle: int) -> None:
    """Nothing is done to one that is not written yet, or not there any more."""
    with suppress(FileNotFoundError), file.open("r+b") as opened:
        at = file.stat().st_size // 2 + off_the_middle
        opened.seek(at)
        byte = opened.read(1)
        opened.seek(at)
        opened.write(bytes(value ^ 1 for value in byte))


def test_a_directory_with_something_in_it_is_left_alone(
    saved: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    ran = run("snapshot", "restore", str(saved), f"--data-dir={tmp_path / 'used'}")
    assert ran.code == 2
    assert "is not empty" in ran.err
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def test_members_of_one_archive_hold_the_same(saved: Path, tmp_path: Path, run: Run) -> None:
    hashes = set()
    for name in ("one", "two"):
        ran = run(
            *("snapshot", "restore", str(saved), f"--data-dir={tmp_path / name}"),
            *(f"--name={name}", f"--initial-advertise-peer-urls=http://{name}:1"),
            "--initial-cluster=one=http://one:1,two=http://two:1",
        )
        assert ran.code == 0, ran.err
        hashes.add(ran.out.split()[-1])
        state = tmp_path / name / "state-000001"
        files = {p.name for p in state.iterdir() if p.suffix == ".sst"}
        hashes.add(tuple(sorted(files)))  # type: ignore[arg-type]
    assert len(hashes) == 2  # one cluster id, one set of files


def test_an_endpoint_that_does_not_answer_leaves_no_file(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "backup.snap"
    ran = run("snapshot", "save", str(path), f"--endpoints=127.0.0.1:{free_port()}")
    assert ran.code != 0
    assert list(tmp_path.iterdir()) == []


def test_etcds_snapshot_is_saved_and_not_restored(etcd: Server, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "etcd.snap"
    assert run("snapshot", "save", str(path), f"--endpoints={etcd.target}").code == 0
    assert path.stat().st_size % 512 == 32
    ran = run("snapshot", "status", str(path))
    assert "etcdutl" in ran.err
