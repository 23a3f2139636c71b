"""Run one member as a process: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from contextlib import suppress

from chainfire import logs
from chainfire.config import Config
from chainfire.errors import ConfigError, FatalError
from chainfire.gateway.descriptors import raise_limit
from chainfire.server.doors import NATIVE, door_of
from chainfire.server.member import Member

log = logging.getLogger(__name__)

EXIT_OK, EXIT_FAILED, EXIT_BAD_CONFIG = 0, 1, 2

# How long a thread waits for the GIL before it insists. Much less than a slice of long work
# (`node.steps`): the loop gives the GIL back between slices, and who has not insisted by then
# finds it taken again. A sync of the log on a thread stood still for 140 ms so. Not for grpcio,
# whose own thread wants the GIL for each message: calls took a tenth to a third more CPU.
SWITCH_SECONDS = 0.0005


def run(config: Config) -> int:
    """Serve until SIGINT or SIGTERM (0), or until the member must stop (1).

    2: the configuration cannot be used. What happened is in the log.
    """
    if not __debug__:
        raise SystemExit("chainfire relies on its assertions: do not run it under python -O")
    logs.setup(config.logging.log_level, config.logging.log_format)
    raise_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _serve(config: Config) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    code = await _life(config, stopping, is_last=False)
    if code is None:  # once: a disk that goes on losing data wants an operator
        # What failed may hold iterators of a database, which stays open, and locked, by them.
        gc.unfreeze()
        gc.collect()
        log.warning("starting anew, with what the other members hold")
        code = await _life(config, stopping, is_last=True)
    assert code is not None
    return code


async def _life(config: Config, stopping: asyncio.Event, *, is_last: bool) -> int | None:
    """One member from its start to its end; None: it is to be started anew, unless `is_last`."""
    member = Member(config)
    stopped = asyncio.create_task(stopping.wait())
    starting = asyncio.create_task(member.start())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    try:
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            log.info("stopped", extra={"reason": "signal before it was ready"})
            return EXIT_OK
        await starting
    except ConfigError as exc:
        log.error("cannot start", extra={"error": str(exc)})
        return EXIT_BAD_CONFIG
    except TimeoutError:
        log.error("cannot start", extra={"error": "the log could not be replayed in time"})
        return EXIT_FAILED
    except (FatalError, OSError) as exc:
        log.error("cannot start", extra={"kind": type(exc).__name__, "error": str(exc)})
        return None if member.starts_anew and not is_last else EXIT_FAILED
    gc.collect()
    gc.freeze()  # what lives as long as the process is not looked at again
    if door_of(config) == NATIVE:
        sys.setswitchinterval(SWITCH_SECONDS)
    assert member.node is not None
    member.node.collector_pauses.begin()
    log.info("ready to serve client requests", extra=_ready_fields(config, member))
    failed = asyncio.create_task(member.failed())
    await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not failed.done():
        log.info("stopping", extra={"reason": "signal"})
    else:
        member.begin_anew(failed.result())
    await member.aclose()
    await asyncio.sleep(0)  # a failure of the stop itself arrives
    code = EXIT_FAILED if failed.done() else EXIT_OK
    for task in (failed, stopped):
        task.cancel()
    if member.starts_anew and not is_last:
        return None
    log.info("stopped", extra={"exit_code": code})
    return code


def _ready_fields(config: Config, member: Member) -> dict[str, str]:
    assert member.node is not None
    return {
        "member": f"{member.node.member_id:x}",
        "cluster": f"{member.node.cluster_id:x}",
        "member_name": config.member.name,
        "door": door_of(config),
        "clients": ",".join(map(str, config.network.listen_client_urls)),
    }
