"""`chainfire member …`: who the members are, and changing that."""

from __future__ import annotations

from collections.abc import Iterator

import click
from google.protobuf.message import Message

from chainfire.cli.common import Options, client_command
from chainfire.cli.go_text import quote
from chainfire.cli.output import Fields, Json, write
from chainfire.cli.table import table
from chainfire.client.calls import member_call, member_list_call
from chainfire.proto import cluster_pb2 as pb

COLUMNS = ("ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner")
_ADDED = "added to cluster", "added as learner to cluster"


def member_id(given: str) -> int:
    """A member's id as it is printed: hexadecimal."""
    try:
        value = int(given, 16)
    except ValueError:
        value = 0
    if not 0 < value < 2**64:
        raise click.BadParameter(f"bad member ID arg ({given!r}), expecting ID in Hex")
    return value


_ID = click.argument("id_", metavar="ID", type=member_id)
_PEER_URLS = click.option("--peer-urls", metavar="URLS", help="Its peer URLs, comma-separated.")


EPILOG = """\b
Examples:
  chainfire member list -w table
  chainfire member add n4 --learner --peer-urls=http://10.0.0.4:2380
  chainfire member promote 8e9e05c52164694d"""


@click.group("member", epilog=EPILOG)
def command() -> None:
    """List members, or add, remove, update and promote them."""


# ── list ────────────────────────────────────────────────────────────────────


@client_command("list", epilog="\b\nExamples:\n  chainfire member list -w table")
@click.option(
    "--consistency",
    type=click.Choice(["l", "s"]),
    default="l",
    show_default=True,
    help="l: as the majority has it; s: as the asked member has it.",
)
def list_(shared: Options, consistency: str) -> None:
    """List the members: ID, status, name, peer and client URLs, whether it is a learner."""
    write_out = shared.write_out("simple", "fields", "json", "table")
    with shared.client() as client:
        reply = client.call(member_list_call(linearizable=consistency == "l"))
    write(_list_lines(reply, write_out, hex=shared.hex))


def _list_lines(reply: pb.MemberListResponse, write_out: str, *, hex: bool) -> Iterator[bytes]:
    match write_out:
        case "json":
            yield from Json().lines(reply)
        case "fields":
            yield from (line.encode() for line in _fields(reply, Fields(hex=hex)))
        case "table":
            yield table(COLUMNS, [_row(member) for member in reply.members]).encode()
        case _:
            yield from (", ".join(_row(member)).encode() for member in reply.members)


def _row(member: pb.Member) -> list[str]:
    return [
        f"{member.ID:x}",
        "started" if member.name else "unstarted",
        member.name,
        ",".join(member.peerURLs),
        ",".join(member.clientURLs),
        str(member.isLearner).lower(),
    ]


def _fields(reply: pb.MemberListResponse, fields: Fields) -> Iterator[str]:
    yield from fields.header(reply.header)
    for member in reply.members:
        yield f'"ID" : {fields.number(member.ID)}'
        yield f'"Name" : {quote(member.name.encode())}'
        yield from (f'"PeerURL" : {quote(url.encode())}' for url in member.peerURLs)
        yield from (f'"ClientURL" : {quote(url.encode())}' for url in member.clientURLs)
        yield f'"IsLearner" : {str(member.isLearner).lower()}'
        yield ""


# ── changes ─────────────────────────────────────────────────────────────────


@client_command(
    "add", epilog="\b\nExamples:\n  chainfire member add n4 --peer-urls=http://10.0.0.4:2380"
)
@click.argument("name")
@_PEER_URLS
@click.option("--learner", is_flag=True, help="Without a vote, until it is promoted.")
def add(shared: Options, name: str, peer_urls: str | None, learner: bool) -> None:
    """Add a member, and print with what it is to be started."""
    urls = _urls(peer_urls)
    request = pb.MemberAddRequest(peerURLs=urls, isLearner=learner)
    with shared.client() as client:
        reply = client.call(member_call("MemberAdd", request, pb.MemberAddResponse))
    if _changed(shared, reply, reply.member.ID, _ADDED[learner]):
        founders = [
            f"{name if member.ID == reply.member.ID else member.name}={url}"
            for member in reply.members
            for url in member.peerURLs
        ]
        click.echo("")
        click.echo(f"ETCD_NAME={quote(name.encode())}")
        click.echo(f"ETCD_INITIAL_CLUSTER={quote(','.join(founders).encode())}")
        click.echo(f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quote(','.join(urls).encode())}")
        click.echo('ETCD_INITIAL_CLUSTER_STATE="existing"')


@client_command("remove", epilog="\b\nExamples:\n  chainfire member remove 8e9e05c52164694d")
@_ID
def remove(shared: Options, id_: int) -> None:
    """Remove the member; its id never comes back."""
    request = pb.MemberRemoveRequest(ID=id_)
    with shared.client() as client:
        reply = client.call(member_call("MemberRemove", request, pb.MemberRemoveResponse))
    _changed(shared, reply, id_, "removed from cluster")


@client_command(
    "update",
    epilog="\b\nExamples:\n  chainfire member update 8e9e05c52164694d "
    "--peer-urls=http://10.0.0.9:2380",
)
@_ID
@_PEER_URLS
def update(shared: Options, id_: int, peer_urls: str | None) -> None:
    """Tell the others where the member is reached from now on."""
    request = pb.MemberUpdateRequest(ID=id_, peerURLs=_urls(peer_urls))
    with shared.client() as client:
        reply = client.call(member_call("MemberUpdate", request, pb.MemberUpdateResponse))
    _changed(shared, reply, id_, "updated in cluster")


@client_command("promote", epilog="\b\nExamples:\n  chainfire member promote 8e9e05c52164694d")
@_ID
def promote(shared: Options, id_: int) -> None:
    """Give the learner a vote, once it has caught up."""
    request = pb.MemberPromoteRequest(ID=id_)
    with shared.client() as client:
        reply = client.call(member_call("MemberPromote", request, pb.MemberPromoteResponse))
    _changed(shared, reply, id_, "promoted in cluster")


def _urls(given: str | None) -> list[str]:
    if not given:
        raise click.UsageError("member peer urls not provided; give --peer-urls")
    return given.split(",")


def _changed(shared: Options, reply: Message, id_: int, what: str) -> bool:
    """Print the outcome; whether that was for people."""
    write_out = shared.write_out("simple", "fields", "json")
    header = reply.header  # type: ignore[attr-defined]
    match write_out:
        case "json":
            write(Json().lines(reply))
        case "fields":
            write(line.encode() for line in Fields(hex=shared.hex).header(header))
        case _:
            click.echo(f"Member {id_:16x} {what} {header.cluster_id:16x}")
    return write_out == "simple"


for _subcommand in (list_, add, remove, update, promote):
    command.add_command(_subcommand)
