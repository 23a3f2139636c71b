"""Where a state directory stands, read without opening it for writing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from chainfire.machine import rows
from chainfire.machine.rows import Position
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.types import ConfState

LOOK_CACHE_BYTES = 8 << 20


def look(path: Path) -> tuple[Position, ConfState]:
    """Raises Corrupt, Damaged or UnknownFormat."""
    options = RocksOptions.state(LOOK_CACHE_BYTES)
    with closing(RocksBackend.open_read_only(path, STATE_FAMILIES, options)) as state:
        position = rows.read_position(state)
        return position, rows.decode_conf_state(rows.required(state, rows.CONF_STATE))
