"""`python -m tests.faults.crashing …`: Chainfire's command line, with a process that kills itself.

CRASH_AT=`POINT:COUNT` names a step of the code, and which call of it: SIGKILL comes right before or
right after. The steps are methods and functions that write, sync, rename or acknowledge, wrapped
from outside, so that the product has no code for it. Compiled, they call each other without looking
who has been wrapped: so this process runs interpreted.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

VARIABLE: Final = "CRASH_AT"


@dataclass(frozen=True, slots=True)
class Step:
    """`when` names what a test must do for the step to be taken."""

    where: str  # module:name or module:class.name
    # load, second (it comes once in each), fill (a file of the log), cut (of a small log), compact,
    # install, bootstrap, start
    when: str = "load"


_STEPS: Final = {
    "log-append": Step("chainfire.node.logstore:LogStore.append"),
    "log-write": Step("chainfire.storage.wal:Wal._write"),
    "log-sync": Step("chainfire.storage.wal:Wal._count_sync"),  # once durable
    "log-file-make": Step("chainfire.storage.walfiles:make", "bootstrap"),
    "log-file-begin": Step("chainfire.storage.walfiles:WalFile.begin", "fill"),
    "witness-note": Step("chainfire.storage.witness:Witness.note"),
    "witness-fsync": Step("chainfire.storage.witness:Witness.fsync", "second"),
    "acknowledge": Step("chainfire.node.driver:Driver.synced"),
    "turn": Step("chainfire.node.driver:Driver.turn"),
    "apply": Step("chainfire.machine.machine:Machine.apply"),
    "state-write": Step("chainfire.storage.rocks:RocksBackend.write"),
    "state-sync": Step("chainfire.storage.rocks:RocksBackend.sync", "second"),
    "state-durable": Step("chainfire.node.logstore:LogStore.note_state_durable", "second"),
    "log-truncate": Step("chainfire.node.logstore:LogStore.truncate_front", "cut"),
    "compact-step": Step("chainfire.mvcc.compact:Compaction.step", "compact"),
    "receive": Step("chainfire.node.receiving:_Files.take", "install"),
    "stage": Step("chainfire.storage.datadir:DataDir.stage_received", "install"),
    "witness-lower": Step("chainfire.storage.witness:Witness.lower", "install"),
    "install-begin": Step("chainfire.node.logstore:LogStore.begin_install", "install"),
    "switch": Step("chainfire.storage.datadir:DataDir.switch", "install"),
    "reopen": Step("chainfire.machine.machine:Machine.reopen", "install"),
    "install-finish": Step("chainfire.node.logstore:LogStore.finish_install", "install"),
    "found-state": Step("chainfire.server.opening:found_state", "bootstrap"),
    "found-log": Step("chainfire.server.opening:begin_log", "bootstrap"),
    "found-witness": Step("chainfire.storage.witness:Witness.create", "bootstrap"),
    "count-start": Step("chainfire.server.opening:count_start", "start"),
    "witness-begin": Step("chainfire.storage.witness:Witness.begin", "start"),
    "remove-leftovers": Step("chainfire.storage.datadir:DataDir.remove_leftovers", "start"),
    "ballast": Step("chainfire.storage.datadir:DataDir.ensure_ballast", "start"),
}
# Points: "before log-sync", "after log-sync", …
POINTS: Final[dict[str, Step]] = {
    f"{side} {name}": step for name, step in _STEPS.items() for side in ("before", "after")
}


def arm(point: str, count: int) -> None:
    """Let this process kill itself at the `count`-th time that it comes to the point."""
    step = POINTS[point]
    module_name, _, path = step.where.partition(":")
    owner: Any = importlib.import_module(module_name)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    static = vars(owner).get(name)
    real: Callable[..., Any] = getattr(owner, name)
    before, left = point.startswith("before"), count

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    is_bound = isinstance(static, classmethod | staticmethod)
    setattr(owner, name, staticmethod(wrapped) if is_bound else wrapped)


def main() -> None:
    point, _, count = os.environ[VARIABLE].rpartition(":")
    os.environ["CHAINFIRE_PURE"] = "1"
    arm(point, int(count))
    sys.argv[0] = "chainfire"
    from chainfire.__main__ import main as serve  # after the point is armed

    serve()


if __name__ == "__main__":
    main()
