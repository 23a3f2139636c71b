"""The benchmark's stalled disk: a sync waits until it is back, a write does not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bench.disks import StallingDisk, may_stall

STALL_SECONDS = 0.3
PATIENCE_SECONDS = 60.0


@pytest.mark.skipif(not may_stall(), reason="needs root and the blkio controller of cgroup v1")
def test_a_sync_waits_for_a_stalled_disk_and_a_write_does_not(tmp_path: Path) -> None:
    with StallingDisk(tmp_path / "disk") as disk, (disk.path / "file").open("wb", 0) as file:
        file.write(b"before")
        os.fdatasync(file)
        disk.stall(PATIENCE_SECONDS)
        file.write(b"meanwhile")
        syncing = threading.Thread(target=os.fdatasync, args=(file,))
        syncing.start()
        syncing.join(STALL_SECONDS)
        assert syncing.is_alive()
        disk.heal()
        syncing.join(PATIENCE_SECONDS / 2)
        assert not syncing.is_alive()
    assert not list((tmp_path / "disk").iterdir())  # nothing is mounted there any more
