"""The processes behind an endpoint, when they run on this machine, and the CPU time they spend.

Linux only: the listening socket is found in /proc/net, its owner among the processes whose open
files may be looked at. Nothing found is no error: there is no CPU figure then.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def local_pids(addresses: Iterable[tuple[str, int]]) -> frozenset[int]:
    """Who listens on these (host, port), as far as they are addresses of this machine."""
    ports = {port for host, port in addresses if _is_local(host)}
    inodes = {inode for port in ports for inode in _listening_inodes(port)}
    return frozenset(_owners(inodes)) if inodes else frozenset()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far, all threads. Those that have ended count nothing."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _is_local(host: str) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for row in (PROC / "net" / name).read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == _LISTENING and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _owners(inodes: set[str]) -> set[int]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    owners = set()
    for process in PROC.iterdir():
        if process.name.isdecimal() and wanted & set(_open_files(process)):
            owners.add(int(process.name))
    return owners


def _open_files(process: Path) -> Iterable[str]:
    with contextlib.suppress(OSError):  # another user's, or ended
        for file in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(file.readlink())
