"""The driver of a member for one life of it: the product's, set up as its shell does that."""

from __future__ import annotations

from random import Random

from chainfire.node.driver import Driver, Limits
from chainfire.node.duties import Duties, DutySettings
from chainfire.node.standing import Stage
from chainfire.raft.config import Config
from chainfire.raft.rawnode import RawNode
from chainfire.sim.disk import Disk
from chainfire.sim.opening import Opened
from chainfire.sim.shape import Options, Shape


def make_driver(
    member_id: int, disk: Disk, opened: Opened, shape: Shape, options: Options, dice: Random
) -> Driver:
    """Of what was just opened on this disk; `dice` draw its election timeouts."""
    config = Config(
        id=member_id,
        draw=dice.randrange,
        election_ticks=options.election_ticks,
        applied_index=opened.machine.applied_index,
        async_storage_writes=True,
        commits_wait=True,
        first_append_waits=True,
        asking_confirms=True,
        rounds_ask_few=True,
        append_bytes_max=options.append_bytes_max,
        applying_bytes_max=options.applying_bytes_max,
        uncommitted_bytes_max=options.uncommitted_bytes_max,
        inflight_messages_max=options.under_way_max,
        pre_vote=options.pre_vote,
        check_quorum=shape.check_quorum,
        forward_proposals=False,
    )
    settings = DutySettings(
        name=f"m{member_id}",
        client_urls=(f"http://sim:{member_id}",),
        quota_bytes=-1,
        auto_clear_space_alarm=True,
        disk_reserve_bytes=1000,
        auto_compactor=None,
    )
    return Driver(
        raft=RawNode(config, opened.log),
        log=opened.log,
        machine=opened.machine,
        witness=opened.witness,
        state_place=disk,
        duties=Duties(member_id, opened.machine, settings),
        member_id=member_id,
        start_number=opened.start_number,
        stage=Stage.LOST if disk.lost_data else Stage.FULL,
        limits=Limits(
            pending_max=200,
            request_timeout_ms=options.request_timeout_ms,
            election_timeout_ms=shape.heartbeat_ms * options.election_ticks,
        ),
    )
