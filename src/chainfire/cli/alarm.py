"""`chainfire alarm …`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from chainfire.cli.common import Options, client_command
from chainfire.cli.output import Fields, Json, write
from chainfire.client.calls import maintenance_call
from chainfire.proto import maintenance_pb2 as pb

EPILOG = """\b
Examples:
  chainfire alarm list
  chainfire alarm disarm"""


@click.group("alarm", epilog=EPILOG)
def command() -> None:
    """List alarms, or disarm them."""


@client_command("list", epilog="\b\nExamples:\n  chainfire alarm list")
def list_(shared: Options) -> None:
    """List the alarms that are set, with the members that raised them."""
    _ask(shared, pb.AlarmRequest(action=pb.AlarmRequest.GET))


@client_command("disarm", epilog="\b\nExamples:\n  chainfire alarm disarm")
def disarm(shared: Options) -> None:
    """Clear all alarms, and print them."""
    write_out = shared.write_out("simple", "fields", "json")
    everything = pb.AlarmRequest(action=pb.AlarmRequest.GET)
    with shared.client() as client:
        found = client.call(maintenance_call("Alarm", everything, pb.AlarmResponse, is_read=True))
        for alarm in found.alarms:
            request = pb.AlarmRequest(
                action=pb.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
            )
            client.call(maintenance_call("Alarm", request, pb.AlarmResponse, is_read=False))
    write(_lines(found, write_out, hex=shared.hex))


def _ask(shared: Options, request: pb.AlarmRequest) -> None:
    write_out = shared.write_out("simple", "fields", "json")
    with shared.client() as client:
        reply = client.call(maintenance_call("Alarm", request, pb.AlarmResponse, is_read=True))
    write(_lines(reply, write_out, hex=shared.hex))


def _lines(reply: pb.AlarmResponse, write_out: str, *, hex: bool) -> Iterator[bytes]:
    match write_out:
        case "json":
            yield from Json().lines(reply)
        case "fields":
            fields = Fields(hex=hex)
            yield from (line.encode() for line in fields.header(reply.header))
            for alarm in reply.alarms:
                yield f'"MemberID" : {fields.number(alarm.memberID)}'.encode()
                yield f'"AlarmType" : {pb.AlarmType.Name(alarm.alarm)}'.encode()
                yield b""
        case _:
            for alarm in reply.alarms:
                yield f"memberID:{alarm.memberID} alarm:{pb.AlarmType.Name(alarm.alarm)} ".encode()


for _subcommand in (list_, disarm):
    command.add_command(_subcommand)
