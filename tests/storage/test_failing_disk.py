"""Real disks that fail: syncs that fail or hang (a preloaded library), and a full file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chainfire.errors import DiskFull, StorageError
from chainfire.storage.backend import Backend
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.wal import Wal
from tests.storage.backends import FAMILIES, put, run_python

PRELUDE = """
import os, sys, threading, time
from pathlib import Path
from chainfire.errors import Stalled, SyncFailed
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.wal import Wal
from tests.storage.backends import FAMILIES, put

path = Path(sys.argv[1])
fails, hangs = Path(os.environ["SYNC_FAILS"]), Path(os.environ["SYNC_HANGS"])


def refused(act):
    try:
        act()
    except SyncFailed as exc:
        return str(exc)
    raise AssertionError("was not refused")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: failing syncs are not tested")
    library = tmp_path_factory.mktemp("shim") / "failing_sync.so"
    source = Path(__file__).with_name("failing_sync.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


OPENS = {
    "rocks": "backend = RocksBackend(path, FAMILIES, RocksOptions.state(1 << 20))\n",
    "wal": "backend = Wal(path, FAMILIES)\n",
}


def _open(engine: str, path: Path) -> Backend:
    if engine == "wal":
        return Wal(path, FAMILIES)
    return RocksBackend(path, FAMILIES, RocksOptions.state(1 << 20))


def _run(shim: Path, tmp_path: Path, engine: str, code: str) -> str:
    return run_python(
        PRELUDE + OPENS[engine] + code,
        str(tmp_path / "db"),
        LD_PRELOAD=str(shim),
        SYNC_FAILS=str(tmp_path / "fails"),
        SYNC_HANGS=str(tmp_path / "hangs"),
    )


@pytest.mark.parametrize("engine", sorted(OPENS))
def test_a_failed_sync_is_for_good_and_its_batch_may_survive(
    shim: Path, tmp_path: Path, engine: str
) -> None:
    out = _run(
        shim,
        tmp_path,
        engine,
        """
put(backend, (b"synced", b""))
backend.sync()
put(backend, (b"unknown", b""))
fails.touch()
assert "Input/output error" in refused(backend.sync)
fails.unlink()
first = refused(backend.sync)
assert first == refused(backend.sync) == refused(lambda: put(backend, (b"later", b"")))
assert backend.get("a", b"synced") == b""
backend.close()
print("refused")
""",
    )
    assert out == "refused\n"
    backend = _open(engine, tmp_path / "db")
    assert list(backend.keys("a")) == [b"synced", b"unknown"]  # so never report it as not written
    backend.close()


@pytest.mark.parametrize("engine", sorted(OPENS))
def test_reads_and_writes_go_on_while_a_sync_hangs(shim: Path, tmp_path: Path, engine: str) -> None:
    # If sync held the GIL, the main thread would never come to remove the file.
    out = _run(
        shim,
        tmp_path,
        engine,
        """
put(backend, (b"k", b"v"))
hangs.touch()
syncing = threading.Thread(target=backend.sync)
syncing.start()
for number in range(500):
    put(backend, (b"%d" % number, b"v"))
    assert backend.get("a", b"k") == b"v"
assert syncing.is_alive()
hangs.unlink()
syncing.join()
backend.close()
print("went on")
""",
    )
    assert out == "went on\n"


def test_a_stall_is_an_error_and_passes(shim: Path, tmp_path: Path) -> None:
    # Flushes cannot finish while syncs hang, so the memtables fill up.
    out = _run(
        shim,
        tmp_path,
        "rocks",
        """
hangs.touch()
stalled_at = None
for number in range(400):
    try:
        put(backend, (b"%06d" % number, os.urandom(1 << 18)))
    except Stalled:
        stalled_at = number
        break
assert stalled_at is not None
assert backend.get("a", b"%06d" % stalled_at) is None
hangs.unlink()
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    try:
        put(backend, (b"%06d" % stalled_at, b"now"))
        break
    except Stalled:
        time.sleep(0.01)
assert backend.get("a", b"%06d" % stalled_at) == b"now"
assert len(list(backend.keys("a"))) == stalled_at + 1
backend.close()
print("passed")
""",
    )
    assert out == "passed\n"


# ── a full file system ──────────────────────────────────────────────────────

TMPFS_BYTES = 64 << 20
BALLAST_BYTES = 24 << 20  # more than RocksDB's WAL, which opening rewrites


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("may not mount a tmpfs here: a full disk is not tested")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _fill(path: Path) -> None:
    with (path / "filler").open("ab", buffering=0) as file:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert os.statvfs(path).f_bavail == 0


def _write_until_refused(backend: Backend) -> tuple[int, StorageError]:
    """The number of the first refused row, and its error."""
    for number in range(10_000):
        try:
            put(backend, (b"%06d" % number, os.urandom(4096)))
            backend.sync()
        except StorageError as exc:
            return number, exc
    raise AssertionError("the disk never got full")


@pytest.mark.interpreted
@pytest.mark.parametrize("engine", sorted(OPENS))
def test_a_full_disk_refuses_the_write_and_loses_nothing_synced(
    small_disk: Path, engine: str
) -> None:
    data_dir = DataDir(small_disk / "data", ballast_bytes=BALLAST_BYTES)
    assert data_dir.ensure_ballast()
    path = data_dir.log_path
    backend = _open(engine, path)
    refused, error = _write_until_refused(backend)
    assert isinstance(error, DiskFull)
    assert backend.get("a", b"%06d" % refused) is None
    assert len(list(backend.keys("a"))) == refused
    backend.close()

    _fill(small_disk)
    if engine == "rocks":  # a log may have room in a file of its own
        with pytest.raises(DiskFull, match="could not be opened"):
            _open(engine, path)
    assert data_dir.release_ballast()
    backend = _open(engine, path)
    assert list(backend.keys("a")) == [b"%06d" % number for number in range(refused)]
    put(backend, (b"and on", b"it goes"))
    backend.sync()
    assert not data_dir.ensure_ballast()
    backend.close()
    data_dir.close()


def test_a_data_directory_on_a_full_disk_can_be_locked(small_disk: Path) -> None:
    data_dir = DataDir(small_disk / "data", ballast_bytes=BALLAST_BYTES)
    data_dir.close()
    _fill(small_disk)
    data_dir = DataDir(small_disk / "data", ballast_bytes=BALLAST_BYTES)
    assert not data_dir.ensure_ballast()
    data_dir.close()
