"""`chainfire lease grant|revoke|timetolive|list|keep-alive`, printing what etcdctl prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.output import Json, write
from chainfire.errors import LeaseNotFound

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from chainfire.client.calls import Call

EPILOG = """\b
Examples:
  chainfire lease grant 60
  chainfire put worker/7 busy --lease=694d94be2a3b1f21
  chainfire lease timetolive 694d94be2a3b1f21 --keys
  chainfire lease keep-alive 694d94be2a3b1f21"""
RENEWALS_PER_TTL = 3


def _lease_id(_: click.Context, __: click.Parameter, value: str) -> int:
    try:
        lease = int(value, 16)
    except ValueError:
        raise click.BadParameter(f"{value}: not a lease id in hex") from None
    if not -(2**63) <= lease < 2**63:
        raise click.BadParameter(f"{value}: not a lease id")
    return lease


lease_id = click.argument("lease", metavar="ID", callback=_lease_id)


@click.group("lease", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Grant, renew, look at and end leases. Ids are hexadecimal."""


def _subcommand(name: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    make = client_command(name, epilog=f"\b\nExample:\n  chainfire lease {example}")

    def decorate(function: Callable[..., Any]) -> click.Command:
        made = make(function)
        command.add_command(made)
        return made

    return decorate


def _hex(lease: int) -> str:
    return f"{lease:016x}"


def _tell(shared: Options, reply: Message, lines: Iterable[str]) -> None:
    if shared.write_out("simple", "json") == "json":
        write(Json().lines(reply))
    else:
        write(line.encode() for line in lines)
    sys.stdout.flush()


def _ask(shared: Options, call: Call[Any]) -> Any:
    shared.write_out("simple", "json")  # or nothing is asked
    with shared.client() as client:
        return client.call(call)


@_subcommand("grant", "grant 60")
@click.argument("ttl", type=float)
def grant(shared: Options, ttl: float) -> None:
    """Grant a lease of TTL seconds, or of the least that there is.

    Parts of a second count where the server is Chainfire.
    """
    from chainfire.client import leasing

    reply = _ask(shared, leasing.grant_call(ttl, 0))
    seconds = leasing.lease_of(reply).ttl_seconds
    _tell(shared, reply, [f"lease {_hex(reply.ID)} granted with TTL({seconds:g}s)"])


@_subcommand("revoke", "revoke 694d94be2a3b1f21")
@lease_id
def revoke(shared: Options, lease: int) -> None:
    """End a lease, and delete its keys."""
    from chainfire.client import leasing

    reply = _ask(shared, leasing.revoke_call(lease))
    _tell(shared, reply, [f"lease {_hex(lease)} revoked"])


@_subcommand("timetolive", "timetolive 694d94be2a3b1f21 --keys")
@lease_id
@click.option("--keys", is_flag=True, help="With the keys that are attached to it.")
def timetolive(shared: Options, lease: int, keys: bool) -> None:
    """What is left of a lease."""
    from chainfire.client import leasing

    reply = _ask(shared, leasing.status_call(lease, keys=keys))
    if reply.TTL < 0:
        text = f"lease {_hex(lease)} already expired"
    else:
        text = f"lease {_hex(lease)} granted with TTL({reply.grantedTTL}s), remaining({reply.TTL}s)"
        if keys:
            names = b" ".join(reply.keys).decode("utf-8", "surrogateescape")
            text += f", attached keys([{names}])"
    if shared.write_out("simple", "json") == "json":
        write(Json().lines(reply))
    else:
        write([text.encode("utf-8", "surrogateescape")])


@_subcommand("list", "list")
def list_(shared: Options) -> None:
    """The ids of all leases; those that end first come first."""
    from chainfire.client import leasing

    reply = _ask(shared, leasing.leases_call())
    lines = [f"found {len(reply.leases)} leases", *(_hex(status.ID) for status in reply.leases)]
    _tell(shared, reply, lines)


@_subcommand("keep-alive", "keep-alive 694d94be2a3b1f21")
@lease_id
@click.option("--once", is_flag=True, help="Renew it once and end.")
def keep_alive(shared: Options, lease: int, once: bool) -> None:
    """Renew a lease again and again, until it is gone."""
    from chainfire.client import leasing

    shared.write_out("simple", "json")
    with shared.client() as client:
        while True:
            reply = client.call(leasing.keep_alive_call(lease))
            kept = leasing.kept_seconds(reply)
            if once and not kept:
                raise LeaseNotFound
            if not kept:
                _tell(shared, reply, [f"lease {_hex(lease)} expired or revoked."])
                return
            _tell(shared, reply, [f"lease {_hex(lease)} keepalived with TTL({reply.TTL})"])
            if once:
                return
            time.sleep(kept / RENEWALS_PER_TTL)
