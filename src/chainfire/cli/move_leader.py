"""`chainfire move-leader`."""

from __future__ import annotations

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.member import member_id
from chainfire.client.calls import maintenance_call, status_call
from chainfire.errors import ChainfireError
from chainfire.proto import maintenance_pb2 as pb


@client_command("move-leader", epilog="\b\nExamples:\n  chainfire move-leader 8e9e05c52164694d")
@click.argument("target", metavar="ID", type=member_id)
def command(shared: Options, target: int) -> None:
    """Let the member with this ID lead. One of the endpoints must be the leader's."""
    with shared.client() as client:
        for endpoint in client.endpoints:
            try:
                status = client.call_at(endpoint, status_call())
            except ChainfireError:
                continue
            leader = status.leader
            if leader == status.header.member_id:
                break
        else:
            endpoints = ", ".join(client.endpoints)
            raise click.UsageError(f"no leader endpoint given at [{endpoints}]")
        request = pb.MoveLeaderRequest(targetID=target)
        call = maintenance_call("MoveLeader", request, pb.MoveLeaderResponse, is_read=False)
        client.call_at(endpoint, call)
    click.echo(f"Leadership transferred from {leader:x} to {target:x}")
