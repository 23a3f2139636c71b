"""Which branch the next transaction takes: found out before it is applied, in slices.

A compare of a range looks at every key of it. Until that is done nothing of the
transaction is staged, and what is behind it waits, so that the state stays as it is;
a crash loses nothing, and no other member needs to cut at the same places.
"""

from __future__ import annotations

from typing import Final

from chainfire.mvcc import rows
from chainfire.mvcc.read import Steps
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.txn import Branch, decide_steps
from chainfire.proto.command_pb2 import Command
from chainfire.storage.staged import Staged
from chainfire.types import Entry

STEPS_AT_ONCE: Final = 8  # 2000 rows, or some MiB; 3 ms


class Deciding:
    def __init__(self, store: Mvcc, staged: Staged) -> None:
        self._store = store
        self._staged = staged
        self._index = 0  # of the entry that was asked about last
        self._steps: Steps[Branch] | None = None  # there are more to come
        self._branch: Branch | None = None

    def branch(self, entry: Entry, command: Command) -> Branch | None:
        """Of a transaction that comes next; None: ask again, when the loop has come round."""
        if entry.index != self._index:
            prefix = rows.keyspace_prefix(command.keyspace)
            self._index = entry.index
            self._steps = decide_steps(self._staged, self._store.cache, prefix, command.txn)
            self._branch = None
        steps = self._steps
        if steps is not None:
            try:
                for _ in range(STEPS_AT_ONCE):
                    next(steps)
            except StopIteration as end:
                self._steps, self._branch = None, end.value
        return self._branch
