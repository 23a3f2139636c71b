"""A disk that stands still for a while, for whatever program writes to it.

A file system of its own on a loop device, whose writes the kernel holds back while it stalls:
written pages stay in the page cache, and a sync waits until the disk is back. Root, loop devices
and the blkio controller of cgroup v1 are needed.
"""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_THROTTLE: Final = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
_LOOP_MAJOR: Final = 7
_IMAGE_BYTES: Final = 512 << 20


def may_stall() -> bool:
    return os.geteuid() == 0 and _THROTTLE.exists()


class StallingDisk:
    """Use with `with`; `path` is empty at first but for what the file system makes."""

    def __init__(self, place: Path) -> None:
        """`place` is made, with the image beside it."""
        self.path = place
        self._image = place.with_name(f"{place.name}.img")
        self._device = ""
        self._healing = threading.Timer(0, self.heal)

    def __enter__(self) -> Self:
        if not may_stall():
            raise SystemExit("a stalled disk needs root and the blkio controller of cgroup v1")
        with self._image.open("xb") as image:
            image.truncate(_IMAGE_BYTES)
        self._device = _run("losetup", "--find", "--show", str(self._image))
        _run("mkfs.ext4", "-q", self._device)
        self.path.mkdir()
        _run("mount", self._device, str(self.path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.heal()
        _run("umount", "--lazy", str(self.path))
        _run("losetup", "--detach", self._device)

    def stall(self, seconds: float) -> None:
        """For so long, or until `heal`."""
        self._allow(1)
        self._healing = threading.Timer(seconds, self.heal)
        self._healing.start()

    def heal(self) -> None:
        self._healing.cancel()
        self._allow(0)

    def _allow(self, bytes_per_second: int) -> None:
        """0: any number."""
        minor = self._device.removeprefix("/dev/loop")
        _THROTTLE.write_text(f"{_LOOP_MAJOR}:{minor} {bytes_per_second}\n")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
