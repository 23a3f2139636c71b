"""DATA_DIR: who may use it, which state directory is live, and room for a full disk.

Layout: docs/formats.md. On a first start the order is: state directory filled
and synced, `switch` to it, then `log/`, then the witness. So a CURRENT that is
missing beside any of the latter two was lost, and nothing may be removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from chainfire.errors import (
    ConfigError,
    Corrupt,
    DataDirLocked,
    DataDirMismatch,
    UnknownFormat,
)

CURRENT_FORMAT = 1
# Opening replays at most the WAL bytes of both directories (RocksOptions: 16 MiB each) into new
# files before the old ones go; the other half is for the deletes and the compaction that follow.
BALLAST_BYTES_DEFAULT = 64 << 20

_STATE_NAME = re.compile(r"state-(\d{6})")
_CHECKPOINT_NAME = re.compile(r"checkpoint-(\d{6})")
_DAMAGED_NAME = re.compile(r"damaged-(\d{6})")
_MEMBERS = re.compile(r"log|witness(\.tmp)?|CURRENT(\.tmp)?|receiving|(state|checkpoint)-\d{6}")
_HEADER = re.compile(r"chainfire-state (\d+)")


class DataDir:
    """Created if missing; locked from construction to `close`."""

    def __init__(self, path: Path, *, ballast_bytes: int = BALLAST_BYTES_DEFAULT) -> None:
        """Raises DataDirLocked with the holder, ConfigError, or DataDirMismatch for etcd's."""
        self.path = path
        self.log_path = path / "log"
        self.witness_path = path / "witness"
        self.receiving_path = path / "receiving"  # a snapshot on its way; survives restarts
        self.rejoin_path = path / "rejoin"  # there while what it belongs to is put aside
        self._current_path = path / "CURRENT"
        self._ballast_path = path / "ballast"
        self._ballast_bytes = ballast_bytes
        self._last_checkpoint = 0  # the last name that was promised
        try:
            if (path / "member" / "snap").exists():
                raise DataDirMismatch(
                    f"{path} is a data directory of etcd. Give another --data-dir, and copy the "
                    "keys over from the running etcd"
                )
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise ConfigError(f"data-dir: cannot write to {path}: {exc.strerror}") from exc
        try:
            self._lock()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def close(self) -> None:
        """Idempotent. Gives the lock back; the file stays."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            pid, _, started = os.pread(self._lock_fd, 64, 0).decode(errors="replace").partition(" ")
            raise DataDirLocked(
                f"{self.path} is in use by process {pid or 'unknown'}"
                + (f", running since {started.strip()}" if started else "")
            ) from exc
        except OSError as exc:
            raise ConfigError(f"data-dir: cannot lock {self.path}: {exc.strerror}") from exc
        text = f"{os.getpid()} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n"
        try:
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, text.encode(), 0)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:  # a full disk opens all the same; the lock itself holds
                raise ConfigError(f"data-dir: cannot write to {self.path}: {exc.strerror}") from exc

    # ── the live state directory ────────────────────────────────────────────

    def current(self) -> Path | None:
        """The live state directory; None on a first start.

        Raises Corrupt for a CURRENT that is lost, unreadable or points
        nowhere, UnknownFormat for a newer version's.
        """
        try:
            text = self._current_path.read_bytes().decode("ascii", errors="replace")
        except FileNotFoundError:
            kept = [path.name for path in (self.log_path, self.witness_path) if path.exists()]
            if kept:
                raise Corrupt(
                    f"{self._current_path} is missing, but {' and '.join(kept)} exist: this member "
                    "has run before and its state cannot be found. Restore the file or the "
                    "directory from a backup"
                ) from None
            return None
        except OSError as exc:
            raise Corrupt(f"{self._current_path} cannot be read: {exc.strerror}") from exc
        lines = text.split("\n")
        header = _HEADER.fullmatch(lines[0])
        if header and int(header[1]) != CURRENT_FORMAT:
            raise UnknownFormat(
                f"{self._current_path} has format {header[1]}, this version knows format "
                f"{CURRENT_FORMAT}: the directory was written by a newer version"
            )
        if not header or len(lines) != 3 or lines[2] or not _STATE_NAME.fullmatch(lines[1]):
            raise Corrupt(f"{self._current_path} is damaged: it reads {text[:80]!r}")
        state = self.path / lines[1]
        if not state.is_dir():
            raise Corrupt(f"{self._current_path} names {lines[1]}, which does not exist")
        return state

    def next_state_path(self) -> Path:
        """A name that no state directory has yet. Nothing is created."""
        return self.path / f"state-{_last_number(self.path, _STATE_NAME) + 1:06d}"

    def next_checkpoint_path(self) -> Path:
        """A name that no checkpoint has or was promised. Nothing is created: several may be under
        way, and one may be on its way out."""
        last = max(self._last_checkpoint, _last_number(self.path, _CHECKPOINT_NAME))
        self._last_checkpoint = last + 1
        return self.path / f"checkpoint-{self._last_checkpoint:06d}"

    def stage_received(self) -> Path:
        """What was received, durably under the name of a state directory that is not live yet."""
        for file in self.receiving_path.iterdir():
            _fsync(file)
        _fsync(self.receiving_path)
        staged = self.next_state_path()
        self.receiving_path.rename(staged)
        _fsync(self.path)
        return staged

    def switch(self, state: Path) -> None:
        """Make `state` the live one, durably: its files, CURRENT, rename, this directory."""
        assert state.parent == self.path and _STATE_NAME.fullmatch(state.name), state
        for file in state.iterdir():
            _fsync(file)
        _fsync(state)
        written = self.path / "CURRENT.tmp"
        written.write_bytes(f"chainfire-state {CURRENT_FORMAT}\n{state.name}\n".encode())
        _fsync(written)
        written.rename(self._current_path)
        _fsync(self.path)

    def remove_leftovers(self) -> list[Path]:
        """Remove what an interrupted switch or send left, and return it. Raises like `current`."""
        current = self.current()
        leftovers = [path for path in self._state_paths() if path != current]
        leftovers += sorted(p for p in self.path.iterdir() if _CHECKPOINT_NAME.match(p.name))
        for path in leftovers:
            shutil.rmtree(path)
        (self.path / "CURRENT.tmp").unlink(missing_ok=True)
        return leftovers

    def put_log_aside(self) -> Path:
        """Rename `log/`, which cannot be read, so that a new one can be made; its new path."""
        number = 1
        while (aside := self.path / f"log-unreadable-{number}").exists():
            number += 1
        self.log_path.rename(aside)
        _fsync(self.path)
        return aside

    # ── what is not trusted any more ────────────────────────────────────────

    def next_damaged_name(self) -> str:
        """A name under which nothing was put aside yet."""
        return f"damaged-{_last_number(self.path, _DAMAGED_NAME) + 1:06d}"

    def put_aside(self, name: str) -> None:
        """Move all that belongs to the member into this directory; durable when it returns.

        May be called again after a crash: what has been moved already stays, and
        what was begun in its place goes.
        """
        aside = self.path / name
        aside.mkdir(mode=0o700, exist_ok=True)
        for path in sorted(self.path.iterdir()):
            if not _MEMBERS.fullmatch(path.name):
                continue
            if os.path.lexists(aside / path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            else:
                path.rename(aside / path.name)
        _fsync(aside)
        _fsync(self.path)

    def damaged_bytes(self) -> int:
        """The size of all that was put aside. Blocks; what is removed meanwhile does not count."""
        found = 0
        for aside in [*self.path.glob("damaged-*"), *self.path.glob("log-unreadable-*")]:
            for file in aside.rglob("*"):
                with suppress(FileNotFoundError):
                    status = file.lstat()
                    if not stat.S_ISDIR(status.st_mode):
                        found += status.st_size
        return found

    def write_rejoin(self, text: bytes) -> None:
        """Durably: a directory with this file holds nothing that may be trusted."""
        written = self.path / "rejoin.tmp"
        written.write_bytes(text)
        _fsync(written)
        written.rename(self.rejoin_path)
        _fsync(self.path)

    def remove_rejoin(self) -> None:
        self.rejoin_path.unlink()
        _fsync(self.path)

    def _state_paths(self) -> list[Path]:
        return sorted(path for path in self.path.iterdir() if _STATE_NAME.match(path.name))

    # ── room ────────────────────────────────────────────────────────────────

    def free_bytes(self) -> int:
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def ensure_ballast(self) -> bool:
        """Whether the ballast is there; made if there is room for it twice."""
        try:
            if self._ballast_path.stat().st_size == self._ballast_bytes:
                return True
            self._ballast_path.unlink()  # of another size: the setting has changed
        except FileNotFoundError:
            pass
        if self._ballast_bytes == 0:
            return True
        if self.free_bytes() < 2 * self._ballast_bytes:
            return False
        made = self.path / "ballast.tmp"
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._ballast_bytes)
        except OSError:
            made.unlink()
            return False
        finally:
            os.close(fd)
        made.rename(self._ballast_path)
        return True

    def release_ballast(self) -> bool:
        """Give the room back, to open or to empty a full disk. False: there was none."""
        try:
            self._ballast_path.unlink()
        except FileNotFoundError:
            return False
        return True


def _last_number(directory: Path, names: re.Pattern[str]) -> int:
    found = [names.match(path.name) for path in directory.iterdir()]
    return max((int(name[1]) for name in found if name is not None), default=0)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
