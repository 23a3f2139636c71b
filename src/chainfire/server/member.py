"""A whole member: disk, node, doors, in the order in which they start and, reversed, stop.

open the data directory -> raft, driver, node -> replay and lead -> doors

A member that was removed closes its doors at once, and ends when others need it no more.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

from chainfire import quota
from chainfire.api.counters import ApiCounters
from chainfire.api.services import Limits, Services
from chainfire.config import Config
from chainfire.errors import ConfigError, Corrupt, Damaged, Diverged, FatalError, OlderCopy
from chainfire.node.autocompact import AutoCompactor, ByRevision, Periodic
from chainfire.node.compacting import Pace
from chainfire.node.driver import Driver
from chainfire.node.driver import Limits as DriverLimits
from chainfire.node.duties import Duties, DutySettings
from chainfire.node.handshake import Hello
from chainfire.node.identity import cluster_id, initial_members, member_id
from chainfire.node.peertls import PeerTls, PeerTlsFiles
from chainfire.node.registry import Registry
from chainfire.node.shell import Node
from chainfire.node.snapshots import Snapshots
from chainfire.node.transport import Transport
from chainfire.node.upkeep import UpkeepSettings
from chainfire.raft.config import Config as RaftConfig
from chainfire.raft.rawnode import RawNode
from chainfire.server import rejoining
from chainfire.server.doors import NATIVE, door_of, ensure_doors_can_open, open_doors
from chainfire.server.founding import FOUNDED_AT, Birth
from chainfire.server.joining import birth_of_joiner, newest_roster
from chainfire.server.opened import Opened
from chainfire.server.opening import OpeningSettings, open_member
from chainfire.server.past import has_past
from chainfire.server.selfsigned import is_self_signed, peer_tls
from chainfire.server.states import look
from chainfire.server.verifying import ensure_sound
from chainfire.types import ConfState
from chainfire.version import VERSION

log = logging.getLogger(__name__)

START_SECONDS_MAX = 60.0  # a lone member replays its log well within it
# Handed out to be applied at a time, and taken in before it is committed: bounds on memory.
APPLYING_BYTES_MAX = 2 << 20
UNCOMMITTED_BYTES_MAX = 256 << 20
ROW_CACHE_SHARE = 0.7  # of cache_bytes; the rest is RocksDB's block cache
# Less free disk raises NOSPACE, before writes begin to fail: both directories flush all of their
# memtables (16 + 32 MiB) and write on between two looks at the disk.
DISK_RESERVE_BYTES = 128 << 20


class Member:
    """One running member. `start`, wait for `failed`, `aclose`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._doors = AsyncExitStack()
        self._leaving: asyncio.Task[None] | None = None  # closes them when it is removed
        self.node: Node | None = None
        self._opened: Opened | None = None
        self.starts_anew = False  # another start mends what this one failed of, or ended with

    async def start(self) -> None:
        """Serving when it returns. Raises FatalError or OSError; then nothing is left open.

        May be cancelled, with the same end.
        """
        config = self._config
        try:
            ensure_doors_can_open(config)
            settings = opening_settings(config)
            if not settings.is_founder and not has_past(settings.data_dir):
                files = _peer_tls_files(config)
                birth = await birth_of_joiner(config, PeerTls(files) if files else None)
                settings = replace(settings, birth=birth)
            opened = await self._open(settings)
            self._stack.callback(opened.close)
            registry = Registry(opened.log_backend, opened.machine)
            node = make_node(config, opened, registry)
            self._stack.push_async_callback(node.aclose)
            transport = make_transport(config, opened, registry, node)
            is_alone = set(opened.machine.members) == {node.member_id}
            await _listen(config, transport, is_alone=is_alone)
            # A lone member replays its log; others may wait for each other as long as it takes.
            await node.start(START_SECONDS_MAX if is_alone else None, transport)
            counters = ApiCounters(extensive=config.logging.metrics == "extensive")
            services = Services(node, _limits(config), counters)
            await self._stack.enter_async_context(self._doors)
            await open_doors(config, node, services, self._doors)
            self._leaving = asyncio.create_task(self._close_doors_when_removed(node))
            self._stack.push_async_callback(self._end_leaving, node)
            self.node = node
        except BaseException as exc:
            if isinstance(exc, FatalError):
                self.begin_anew(exc)
            await self._stack.aclose()
            raise

    async def _open(self, settings: OpeningSettings) -> Opened:
        """As `open_member`; who joined knows its members by asking, if its disk tells no more."""
        try:
            opened = open_member(settings)
        except (Damaged, Corrupt):
            if settings.birth is not None or not settings.auto_heal:
                raise
            files = _peer_tls_files(self._config)
            birth = await birth_of_joiner(self._config, PeerTls(files) if files else None)
            opened = open_member(replace(settings, birth=birth))
        if rejoining.is_empty_handed(opened):
            opened = await self._ask_for_members(settings, opened)
        self._opened = opened
        return opened

    async def _ask_for_members(self, settings: OpeningSettings, opened: Opened) -> Opened:
        """A member that lost its disk may know others that are gone, and not know new ones."""
        cluster, me = self._config.cluster, opened.identity.member_id
        known = rejoining.roster_of(opened)
        urls = {url for member in known.members if me != member.ID for url in member.peerURLs}
        for name, given in cluster.initial_cluster:
            if name != self._config.member.name:
                urls.update(map(str, given))
        try:
            files = _peer_tls_files(self._config)
            newest = await newest_roster(known, me, urls, PeerTls(files) if files else None)
            if newest.is_like(known):
                return opened
            log.info(
                "the members have changed since the data was lost",
                extra={"members": ", ".join(f"{member.ID:x}" for member in newest.members)},
            )
            rejoining.rename_members(opened, newest)
        except BaseException:
            opened.close()
            raise
        opened.close()
        return open_member(settings)

    def begin_anew(self, error: FatalError) -> None:
        """After it `failed`, before `aclose`: `starts_anew` if another start mends that.

        Then what its disk holds is not looked at any more: it is put aside, and
        everything comes from the other members.
        """
        opened = self._opened
        if opened is None or not self._config.cluster.auto_heal:
            return
        if not isinstance(error, (Corrupt, Diverged, OlderCopy)):
            return
        start_number = opened.start_number
        if isinstance(error, OlderCopy):
            start_number = max(start_number, error.start_number)
        roster = rejoining.roster_of(opened)
        if not rejoining.may_rejoin(opened.identity.member_id, roster):
            return
        rejoin = rejoining.Rejoin(
            identity=opened.identity,
            start_number=start_number,
            term=opened.log.hard_state.term,
            roster=roster,
            aside=opened.directory.next_damaged_name(),
            reason=str(error),
        )
        rejoining.begin(opened.directory, rejoin)
        self.starts_anew = True

    async def _close_doors_when_removed(self, node: Node) -> None:
        """So that whoever calls finds another member."""
        await node.removed.wait()
        log.info("removed: the doors are closed")
        await self._doors.aclose()

    async def _end_leaving(self, node: Node) -> None:
        task = self._leaving
        assert task is not None
        if not node.removed.is_set():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def failed(self) -> FatalError:
        """Wait until the member stops by itself."""
        assert self.node is not None
        return await self.node.failed

    async def aclose(self) -> None:
        """Another member leads, doors finish what they accepted, then the node, then the disk.

        Idempotent. A disk that fails meanwhile shows in `failed`.
        """
        if self.node is not None:
            await self.node.hand_over()
        await self._stack.aclose()


def opening_settings(config: Config) -> OpeningSettings:
    cache_bytes = config.storage.cache_bytes
    row_cache_bytes = int(cache_bytes * ROW_CACHE_SHARE)
    is_founder = config.cluster.initial_cluster_state == "new"
    return OpeningSettings(
        data_dir=Path(config.member.data_dir),
        ballast_bytes=config.storage.ballast_bytes,
        block_cache_bytes=cache_bytes - row_cache_bytes,
        row_cache_bytes=row_cache_bytes,
        birth=_founding(config) if is_founder else None,
        is_founder=is_founder,
        force_new_cluster=config.cluster.force_new_cluster,
        auto_heal=config.cluster.auto_heal,
    )


def _founding(config: Config) -> Birth:
    founders = {name: [str(url) for url in urls] for name, urls in config.cluster.initial_cluster}
    name, token = config.member.name, config.cluster.initial_cluster_token
    if name not in founders:
        raise ConfigError(f"initial-cluster: member name {name!r} is not in it")
    members = initial_members(founders, token)
    ids = tuple(member.ID for member in members)
    return Birth(
        cluster_id=cluster_id(ids),
        member_id=member_id(founders[name], token),
        members=members,
        conf_state=ConfState(voters=ids),
        founded_at=FOUNDED_AT,
    )


async def _listen(config: Config, transport: Transport, *, is_alone: bool) -> None:
    """Raises ConfigError. A lone member does without: nobody can join it then."""
    try:
        await transport.listen([str(url) for url in config.network.listen_peer_urls])
    except ConfigError as exc:
        if not is_alone:
            raise
        log.warning("no other member can join this one", extra={"detail": str(exc)})


def make_transport(config: Config, opened: Opened, registry: Registry, node: Node) -> Transport:
    identity = opened.identity
    hello = Hello(
        cluster_id=identity.cluster_id,
        sender=identity.member_id,
        to=0,
        incarnation=identity.incarnation,
        start_number=opened.start_number,
        life=secrets.randbits(64),
        lost_data=registry.has_lost_data,
        log_end=opened.log.last_index(),
        version=VERSION,
    )
    snapshots = Snapshots(
        opened.directory,
        opened.state_backend,
        look,
        ensure_sound,
        bytes_per_second=config.raft.snapshot_bytes_per_second,
    )
    return Transport(
        hello,
        node.peering,
        registry,
        opened.log.record_cache,
        snapshots=snapshots,
        tls=_peer_tls_files(config),
    )


def _peer_tls_files(config: Config) -> PeerTlsFiles:
    files = peer_tls(config)
    return PeerTlsFiles(
        cert_file=files.cert_file,
        key_file=files.key_file,
        trusted_ca_file=files.trusted_ca_file,
        client_cert_auth=files.client_cert_auth,
        crl_file=files.crl_file,
        allowed_common_names=files.cert_allowed_cn,
        allowed_host_names=files.cert_allowed_hostname,
        self_signed=is_self_signed(config),
    )


def make_node(config: Config, opened: Opened, registry: Registry) -> Node:
    member = opened.identity.member_id
    heartbeat_ms = config.raft.heartbeat_interval_ms
    raft = RawNode(
        RaftConfig(
            id=member,
            draw=random.SystemRandom().randrange,
            election_ticks=max(2, config.raft.election_timeout_ms // heartbeat_ms),
            applied_index=opened.machine.applied_index,
            async_storage_writes=True,
            commits_wait=True,
            first_append_waits=True,
            asking_confirms=True,
            rounds_ask_few=True,
            applying_bytes_max=APPLYING_BYTES_MAX,
            uncommitted_bytes_max=UNCOMMITTED_BYTES_MAX,
            pre_vote=config.raft.pre_vote,
            forward_proposals=False,
        ),
        opened.log,
    )
    duties = Duties(member, opened.machine, _duty_settings(config))
    driver = Driver(
        raft=raft,
        log=opened.log,
        machine=opened.machine,
        witness=opened.witness,
        state_place=opened,
        duties=duties,
        member_id=member,
        start_number=opened.start_number,
        stage=registry.stage,
        limits=DriverLimits(
            request_timeout_ms=5000 + 2 * config.raft.election_timeout_ms,
            election_timeout_ms=config.raft.election_timeout_ms,
            learners_max=config.cluster.max_learners,
        ),
    )
    return Node(
        driver=driver,
        log_backend=opened.log_backend,
        state_backend=opened.state_backend,
        registry=registry,
        disk=opened,
        cluster_id=opened.identity.cluster_id,
        heartbeat_seconds=heartbeat_ms / 1000,
        calls_come_in_batches=door_of(config) == NATIVE,  # grpcio brings them one at a time
        slow_turn_seconds=config.logging.warning_apply_duration_ms / 1000,
        upkeep=UpkeepSettings(
            state_sync_entries=config.raft.snapshot_count,
            catchup_entries=config.raft.snapshot_catchup_entries,
            compaction=Pace(
                batch_rows=config.compaction.compaction_batch_limit,
                pause_seconds=config.compaction.compaction_sleep_interval_ms / 1000,
            ),
        ),
        auto_heal=config.cluster.auto_heal,
        verify=ensure_sound,
    )


def _duty_settings(config: Config) -> DutySettings:
    return DutySettings(
        name=config.member.name,
        client_urls=tuple(str(url) for url in config.network.advertise_client_urls),
        quota_bytes=quota.quota_bytes(config.limits.quota_backend_bytes),
        auto_clear_space_alarm=config.limits.alarm_auto_clear,
        disk_reserve_bytes=DISK_RESERVE_BYTES,
        auto_compactor=_auto_compactor(config),
    )


def _auto_compactor(config: Config) -> AutoCompactor | None:
    if config.compaction.keep_period_ms:
        return Periodic(config.compaction.keep_period_ms)
    if config.compaction.keep_revisions:
        return ByRevision(config.compaction.keep_revisions)
    return None


def _limits(config: Config) -> Limits:
    return Limits(
        max_request_bytes=config.limits.max_request_bytes,
        max_txn_ops=config.limits.max_txn_ops,
        strict_reconfig_check=config.cluster.strict_reconfig_check,
        max_learners=config.cluster.max_learners,
        quota_bytes=quota.quota_bytes(config.limits.quota_backend_bytes),
        request_timeout_seconds=5.0 + 2 * config.raft.election_timeout_ms / 1000,
        lease_ttl_seconds_min=lease_ttl_seconds_min(config),
        progress_seconds=config.limits.watch_progress_notify_interval_ms / 1000,
        leaderless_seconds=3 * config.raft.election_timeout_ms / 1000,
    )


def lease_ttl_seconds_min(config: Config) -> int:
    """As etcd: one and a half election timeouts, in whole heartbeats, then in whole seconds."""
    heartbeat_ms = config.raft.heartbeat_interval_ms
    ticks = 3 * (config.raft.election_timeout_ms // heartbeat_ms) // 2
    return math.ceil(ticks * heartbeat_ms / 1000)
