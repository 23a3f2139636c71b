"""What `serve` and `etcd` have in common: raw arguments in, a running member out."""

from __future__ import annotations

import logging

import click

from chainfire.config.layers import Loaded


class RawCommand(click.Command):
    """Takes its arguments as they are: flags follow etcd's rules, not click's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params = {"arguments": tuple(args)}
        return []


def serve(loaded: Loaded) -> int:
    """Log the warnings, then run the member until it ends. Returns the exit code."""
    from chainfire import logs

    logs.setup(loaded.config.logging.log_level, loaded.config.logging.log_format)
    log = logging.getLogger("chainfire.config")
    for warning in loaded.warnings:
        log.warning(warning)

    from chainfire.server import run

    return run(loaded.config)
