"""The composition root: the parts of a member, put together, started and stopped in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainfire.config import Config


def run(config: Config) -> int:
    """Serve one member until it is told to stop; returns the process's exit code."""
    from chainfire.server.main import run as run_member

    return run_member(config)
