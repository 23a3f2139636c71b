"""`chainfire defrag`."""

from __future__ import annotations

import click

from chainfire.cli.common import Options, client_command, whole_cluster
from chainfire.cli.failures import explain
from chainfire.client.calls import maintenance_call
from chainfire.errors import ChainfireError
from chainfire.proto import maintenance_pb2 as pb


@client_command("defrag", epilog="\b\nExamples:\n  chainfire defrag --cluster")
@whole_cluster
def command(shared: Options, cluster: bool) -> int:
    """Ask the member behind each endpoint to give unused disk space back. It goes on serving."""
    code = 0
    with shared.client() as client:
        for endpoint in shared.targets(client, cluster=cluster):
            request = pb.DefragmentRequest()
            call = maintenance_call("Defragment", request, pb.DefragmentResponse, is_read=False)
            try:
                client.call_at(endpoint, call)
            except ChainfireError as exc:
                text = explain(exc).text
                click.echo(f"Failed to defragment etcd member[{endpoint}] ({text})", err=True)
                code = 1
            else:
                click.echo(f"Finished defragmenting etcd member[{endpoint}]")
    return code
