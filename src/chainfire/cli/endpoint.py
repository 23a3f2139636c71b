"""`chainfire endpoint …`: what each endpoint, or each member of the cluster, says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from chainfire.cli import status as status_command
from chainfire.cli.common import Options, client_command, whole_cluster
from chainfire.cli.failures import explain
from chainfire.cli.kv_options import number
from chainfire.cli.output import Fields, Json, write
from chainfire.cli.table import table
from chainfire.client.calls import get_request, maintenance_call, range_call
from chainfire.errors import ChainfireError, PermissionDenied
from chainfire.proto import maintenance_pb2 as pb

if TYPE_CHECKING:
    from chainfire.client.sync import SyncClient

_HEALTH_COLUMNS = ("endpoint", "health", "took", "error")
_HASH_COLUMNS = ("endpoint", "hash", "hash_revision")


EPILOG = """\b
Examples:
  chainfire endpoint health
  chainfire endpoint status --cluster -w table"""


@click.group("endpoint", epilog=EPILOG)
def command() -> None:
    """Show health, status or hash of the member behind each endpoint."""


# ── health ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Health:
    endpoint: str
    took: str
    error: str = ""


@client_command("health", epilog="\b\nExamples:\n  chainfire endpoint health --cluster")
@whole_cluster
def health(shared: Options, cluster: bool) -> int:
    """Read a key through each endpoint. Exit code 1 if one of them is not healthy."""
    write_out = shared.write_out("simple", "json", "table")
    with shared.client() as client:
        found = [_health(client, at) for at in shared.targets(client, cluster=cluster)]
    match write_out:
        case "json":
            write([Json.dump([_health_json(one) for one in found])])
        case "table":
            rows = [
                [one.endpoint, str(not one.error).lower(), one.took, one.error] for one in found
            ]
            write([table(_HEALTH_COLUMNS, rows).encode()])
        case _:
            for one in found:
                _tell_health(one)
    if any(one.error for one in found):
        click.echo("Error: unhealthy cluster", err=True)
        return 1
    return 0


def _health(client: SyncClient, endpoint: str) -> _Health:
    started, error = time.monotonic(), ""
    try:
        client.call_at(endpoint, range_call(get_request("health")))
        request = pb.AlarmRequest(action=pb.AlarmRequest.GET)
        alarms = client.call_at(
            endpoint, maintenance_call("Alarm", request, pb.AlarmResponse, is_read=True)
        ).alarms
        if alarms:
            error = "Active Alarm(s): " + " ".join(pb.AlarmType.Name(one.alarm) for one in alarms)
    except PermissionDenied:
        pass  # it answers, and by consensus
    except ChainfireError as exc:
        error = explain(exc).text
    return _Health(endpoint, f"{(time.monotonic() - started) * 1000:.6f}ms", error)


def _health_json(one: _Health) -> dict[str, object]:
    row: dict[str, object] = {"endpoint": one.endpoint, "health": not one.error, "took": one.took}
    return {**row, "error": one.error} if one.error else row


def _tell_health(one: _Health) -> None:
    if one.error:
        click.echo(f"{one.endpoint} is unhealthy: failed to commit proposal: {one.error}", err=True)
    else:
        click.echo(f"{one.endpoint} is healthy: successfully committed proposal: took = {one.took}")


# ── status ──────────────────────────────────────────────────────────────────


@client_command("status", epilog="\b\nExamples:\n  chainfire endpoint status --cluster -w table")
@whole_cluster
def status(shared: Options, cluster: bool) -> int:
    """Show version, size, leader, term and indexes. Exit code 1 if one does not answer."""
    return status_command.show(shared, default="simple", cluster=cluster)


# ── hashkv ──────────────────────────────────────────────────────────────────


@client_command("hashkv", epilog="\b\nExamples:\n  chainfire endpoint hashkv --cluster")
@click.option("--rev", type=number(0), default=0, help="Of the state at this revision.")
@whole_cluster
def hashkv(shared: Options, rev: int, cluster: bool) -> int:
    """Show the hash of each member's keys and history: equal where the revisions are."""
    write_out = shared.write_out("simple", "fields", "json", "table")
    request = pb.HashKVRequest(revision=rev)
    call = maintenance_call("HashKV", request, pb.HashKVResponse, is_read=True)
    replies, code = shared.ask_each(call, "the hash", cluster=cluster)
    write(_hash_lines(replies, write_out, hex=shared.hex))
    return code


def _hash_lines(
    replies: list[tuple[str, pb.HashKVResponse]], write_out: str, *, hex: bool
) -> Iterator[bytes]:
    rows = [[at, str(reply.hash), str(reply.hash_revision)] for at, reply in replies]
    match write_out:
        case "json":
            plain = Json().plain
            yield Json.dump([{"Endpoint": at, "HashKV": plain(reply)} for at, reply in replies])
        case "fields":
            fields = Fields(hex=hex)
            for endpoint, reply in replies:
                yield from (line.encode() for line in fields.header(reply.header))
                yield f'"Endpoint" : "{endpoint}"'.encode()
                yield f'"Hash" : {reply.hash}'.encode()
                yield f'"HashRevision" : {reply.hash_revision}'.encode()
                yield b""
        case "table":
            yield table(_HASH_COLUMNS, rows).encode()
        case _:
            yield from (", ".join(row).encode() for row in rows)


for _subcommand in (health, status, hashkv):
    command.add_command(_subcommand)
