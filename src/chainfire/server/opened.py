"""Everything on disk of a member that runs: what `opening` makes and the node works on."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from chainfire.machine import Machine
from chainfire.node.logstore import Identity, LogStore
from chainfire.storage.backend import LogBackend, StorageBackend
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksOptions
from chainfire.storage.witness import Witness


@dataclass(slots=True)
class Opened:
    """`close` after the node has stopped."""

    directory: DataDir
    witness: Witness
    log_backend: LogBackend
    state_backend: StorageBackend
    machine: Machine
    log: LogStore
    identity: Identity
    start_number: int
    resources: ExitStack

    state_options: RocksOptions

    def free_bytes(self) -> int:
        return self.directory.free_bytes()

    def switch_state(self, staged: str) -> None:
        """A snapshot becomes the live state, durably; see `node.installing`."""
        path = self.directory.path / staged
        self.directory.switch(path)
        self.state_backend.reopen(path)
        self.directory.remove_leftovers()

    def discard_state(self, staged: str) -> None:
        shutil.rmtree(self.directory.path / staged)

    def damaged_bytes(self) -> int:
        return self.directory.damaged_bytes()

    def fsync_witness(self) -> None:
        self.witness.fsync()

    def next_checkpoint_path(self) -> Path:
        return self.directory.next_checkpoint_path()

    def close(self) -> None:
        self.resources.close()
