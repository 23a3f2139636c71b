"""Are the blocks of a checkpoint what was written? Asked before it is sent to another member.

Checksums on the way prove that a file arrives as it lies here, damage included; so every row is
read first, which checks the blocks. In a process of its own: the binding holds the GIL row by row,
and a thread that reads millions of them would keep the event loop waiting each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from chainfire.errors import Corrupt
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.rocks import RocksBackend, RocksOptions

_CODE: Final = "import sys; from chainfire.server.verifying import main; main(sys.argv[1])"
_NICENESS: Final = 10
_SLICE_BYTES: Final = 64 << 20
_EXIT_DAMAGED: Final = 3
_WORDS_BYTES_MAX: Final = 1000  # of what goes into the log

log = logging.getLogger(__name__)


async def ensure_sound(checkpoint: Path) -> None:
    """Raises Corrupt. Where nobody can tell, for want of memory or files, the log says so."""
    try:
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CODE, str(checkpoint), stdout=PIPE, stderr=PIPE
        )
    except OSError as exc:
        log.warning("cannot verify a checkpoint", extra={"detail": str(exc)})
        return
    try:
        said, complaint = await reader.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            reader.kill()
        await reader.wait()
        raise
    if reader.returncode == _EXIT_DAMAGED:
        raise Corrupt(said.decode(errors="replace"))
    if reader.returncode:
        detail = complaint.decode(errors="replace")[-_WORDS_BYTES_MAX:]
        log.warning(
            "cannot verify a checkpoint",
            extra={"detail": f"exit code {reader.returncode}: {detail}"},
        )


def main(checkpoint: str) -> None:
    """The process: exit code 0, or `_EXIT_DAMAGED` with words; any other tells nothing.

    It ends without taking the interpreter down: the engine's threads may crash in that, and the
    exit code with them.
    """
    os.nice(_NICENESS)
    damage = find_damage(Path(checkpoint))
    sys.stdout.write(damage)
    sys.stdout.flush()
    os._exit(_EXIT_DAMAGED if damage else 0)


def find_damage(checkpoint: Path) -> str:
    """Empty: every row can be read. Blocks. Raises Corrupt where it may be for another reason."""
    options = RocksOptions.state(8 << 20)
    try:
        with closing(RocksBackend.open_read_only(checkpoint, STATE_FAMILIES, options)) as backend:
            for family in STATE_FAMILIES:
                at: bytes | None = b""
                while at is not None:
                    at = backend.scrub(family, at, _SLICE_BYTES)
    except Corrupt as exc:
        if "Corruption" not in exc.detail:  # the engine's word; the rest is files and memory
            raise
        return exc.detail
    return ""
