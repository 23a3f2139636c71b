"""`chainfire status`: one row for each endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chainfire.cli.common import Options, client_command
from chainfire.cli.output import Fields, Json, write
from chainfire.cli.table import bytes_text, table
from chainfire.proto import maintenance_pb2

EPILOG = """\b
Examples:
  chainfire status
  chainfire --endpoints=http://10.0.0.1:2379,http://10.0.0.2:2379 status -w json"""
COLUMNS = (
    *("endpoint", "id", "version", "storage version", "db size", "in use"),
    *("percentage not in use", "quota", "is leader", "is learner", "raft term", "raft index"),
    *("raft applied index", "errors"),
)


@client_command("status", epilog=EPILOG)
def command(shared: Options) -> int:
    """Show how the member behind each endpoint is. Exit code 1 if one does not answer."""
    return show(shared, default="table", cluster=False)


def show(shared: Options, *, default: str, cluster: bool) -> int:
    """`chainfire status`, and `chainfire endpoint status`."""
    from chainfire.client.calls import status_call

    write_out = shared.write_out("table", "simple", "fields", "json", default=default)
    replies, code = shared.ask_each(status_call(), "the status", cluster=cluster)
    write(_lines(replies, write_out, hex=shared.hex))
    return code


def _lines(
    replies: list[tuple[str, maintenance_pb2.StatusResponse]], write_out: str, *, hex: bool
) -> Iterator[bytes]:
    match write_out:
        case "json":
            plain = Json().plain
            entries = [{"Endpoint": at, "Status": plain(reply)} for at, reply in replies]
            yield Json.dump(entries)
        case "fields":
            for endpoint, reply in replies:
                yield from (line.encode() for line in _fields(endpoint, reply, Fields(hex=hex)))
        case "simple":
            for endpoint, reply in replies:
                yield ", ".join(_row(endpoint, reply)).encode()
        case _:
            yield table(COLUMNS, [_row(*item) for item in replies]).encode()


def _row(endpoint: str, reply: maintenance_pb2.StatusResponse) -> list[str]:
    unused = 100 * (reply.dbSize - reply.dbSizeInUse) // reply.dbSize if reply.dbSize else 0
    facts: list[Any] = [
        *(endpoint, f"{reply.header.member_id:x}", reply.version, reply.storageVersion),
        *(bytes_text(reply.dbSize), bytes_text(reply.dbSizeInUse), f"{unused}%"),
        *(bytes_text(reply.dbSizeQuota), str(reply.leader == reply.header.member_id).lower()),
        *(str(reply.isLearner).lower(), reply.raftTerm, reply.raftIndex, reply.raftAppliedIndex),
        ", ".join(reply.errors),
    ]
    return [str(fact) for fact in facts]


def _fields(endpoint: str, reply: maintenance_pb2.StatusResponse, fields: Fields) -> Iterator[str]:
    yield from fields.header(reply.header)
    yield f'"Version" : "{reply.version}"'
    yield f'"StorageVersion" : "{reply.storageVersion}"'
    yield f'"DBSize" : {reply.dbSize}'
    yield f'"DBSizeInUse" : {reply.dbSizeInUse}'
    yield f'"DBSizeQuota" : {reply.dbSizeQuota}'
    yield f'"Leader" : {fields.number(reply.leader)}'
    yield f'"IsLearner" : {str(reply.isLearner).lower()}'
    yield f'"RaftIndex" : {reply.raftIndex}'
    yield f'"RaftTerm" : {reply.raftTerm}'
    yield f'"RaftAppliedIndex" : {reply.raftAppliedIndex}'
    yield f'"Errors" : [{" ".join(reply.errors)}]'
    yield f'"Endpoint" : "{endpoint}"'
    yield ""
