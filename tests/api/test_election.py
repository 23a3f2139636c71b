"""The Election service: who leads, what it says, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from chainfire.api import election
from chainfire.errors import (
    EmptyKey,
    LeaseNotFound,
    MissingLeaderKey,
    NobodyElected,
    NotElected,
    SessionExpired,
)
from chainfire.proto.election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ProclaimResponse,
    ResignRequest,
    ResignResponse,
)
from chainfire.proto.kv_pb2 import CompactionRequest, DeleteRangeRequest, RequestOp, TxnRequest
from tests.api.contenders import Contenders, on_stage
from tests.api.fake_node import Probe
from tests.api.streams import ProbeStream

NAME = b"e"


def campaign(api: Contenders, lease: int, value: bytes = b"v") -> Probe:
    request = CampaignRequest(name=NAME, lease=lease, value=value)
    return api.start("/v3electionpb.Election/Campaign", request)


async def elected(api: Contenders, call: Probe) -> CampaignResponse:
    answer = await api.answer(call)
    assert isinstance(answer, CampaignResponse), answer
    return answer


async def proclaim(api: Contenders, leader: LeaderKey, value: bytes) -> Any:
    request = ProclaimRequest(leader=leader, value=value)
    return await api.answer(api.start("/v3electionpb.Election/Proclaim", request))


async def resign(api: Contenders, leader: LeaderKey) -> Any:
    request = ResignRequest(leader=leader)
    return await api.answer(api.start("/v3electionpb.Election/Resign", request))


async def leader(api: Contenders) -> Any:
    request = LeaderRequest(name=NAME)
    return await api.answer(api.start("/v3electionpb.Election/Leader", request))


# ── Campaign, Leader, Proclaim, Resign ──────────────────────────────────────


@on_stage
async def test_the_first_one_is_elected_at_once(api: Contenders) -> None:
    api.grant(0x2A)
    answer = await elected(api, campaign(api, 0x2A, b"me"))
    assert answer.leader == LeaderKey(name=NAME, key=b"e/2a", rev=2, lease=0x2A)
    assert answer.header.revision == 2
    found = await leader(api)
    assert (found.kv.key, found.kv.value, found.kv.lease) == (b"e/2a", b"me", 0x2A)


@on_stage
async def test_without_candidates_there_is_no_leader(api: Contenders) -> None:
    api.put(b"e0")  # not in the line
    assert isinstance(await leader(api), NobodyElected)


@on_stage
async def test_the_next_one_is_elected_when_the_leader_resigns(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    first = await elected(api, campaign(api, 2, b"a"))
    waiting = campaign(api, 1, b"b")
    await api.settled()
    assert not waiting.answers
    assert (await leader(api)).kv.value == b"a"
    assert isinstance(await resign(api, first.leader), ResignResponse)
    second = await elected(api, waiting)
    assert second.leader.rev == 3
    assert (await leader(api)).kv.value == b"b"
    assert isinstance(await resign(api, first.leader), ResignResponse)  # it is not any more
    assert (await leader(api)).kv.value == b"b"


@on_stage
async def test_a_candidate_without_a_lease_any_more_is_not_elected(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await elected(api, campaign(api, 1))
    waiting = campaign(api, 2)
    await api.settled()
    api.revoke(2)
    assert isinstance(await api.answer(waiting), SessionExpired)
    assert isinstance(await api.answer(campaign(api, 77)), LeaseNotFound)


@on_stage
async def test_a_proclaimed_value_keeps_leader_and_lease(api: Contenders) -> None:
    api.grant(1)
    mine = (await elected(api, campaign(api, 1, b"a"))).leader
    answer = await proclaim(api, mine, b"b")
    assert isinstance(answer, ProclaimResponse)
    assert answer.header.revision == 3
    kv = (await leader(api)).kv
    assert (kv.value, kv.lease, kv.create_revision) == (b"b", 1, 2)
    mine.lease = 0
    await proclaim(api, mine, b"c")
    kv = (await leader(api)).kv
    assert (kv.value, kv.lease) == (b"c", 1)


@on_stage
async def test_only_the_leader_proclaims(api: Contenders) -> None:
    api.grant(1)
    mine = (await elected(api, campaign(api, 1))).leader
    await resign(api, mine)
    assert isinstance(await proclaim(api, mine, b"x"), NotElected)
    assert api.keys() == []
    await elected(api, campaign(api, 1))  # the same key, made anew
    assert isinstance(await proclaim(api, mine, b"x"), NotElected)


@on_stage
async def test_a_candidate_that_campaigns_again_changes_its_value(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await elected(api, campaign(api, 1, b"a"))
    waiting = campaign(api, 2, b"b")
    await api.settled()
    again = campaign(api, 2, b"c")
    await api.settled()
    assert [kv.value for kv in api.kvs()] == [b"a", b"c"]
    api.revoke(1)
    first, second = await elected(api, waiting), await elected(api, again)
    assert first.leader == second.leader
    assert (await elected(api, campaign(api, 2, b""))).leader == first.leader
    assert [kv.value for kv in api.kvs()] == [b""]


@on_stage
async def test_a_cancelled_candidate_leaves_no_key(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await elected(api, campaign(api, 1))
    waiting = campaign(api, 2)
    await api.settled()
    waiting.cancel()
    await api.settled()
    assert api.keys() == [b"e/1"]


@on_stage
async def test_a_leader_must_be_named(api: Contenders) -> None:
    for method, request in (
        ("Proclaim", ProclaimRequest(value=b"x")),
        ("Resign", ResignRequest()),
    ):
        (answer,) = api.start(f"/v3electionpb.Election/{method}", request).answers
        assert isinstance(answer, MissingLeaderKey)
    assert isinstance(await proclaim(api, LeaderKey(name=NAME), b"x"), EmptyKey)
    assert isinstance(await resign(api, LeaderKey(name=NAME)), EmptyKey)


# ── Observe ─────────────────────────────────────────────────────────────────


class Observed:
    def __init__(self, api: Contenders, stream: ProbeStream) -> None:
        self._api = api
        self._stream = stream

    async def told(self) -> list[tuple[int, bytes, bytes]]:
        """(header's revision, key, value) of all that was told since the last call."""
        await self._api.settled()
        sent, self._stream.sent[:] = list(self._stream.sent), []
        replies = map(LeaderResponse.FromString, sent)
        return [(reply.header.revision, reply.kv.key, reply.kv.value) for reply in replies]


@asynccontextmanager
async def observing(api: Contenders) -> AsyncIterator[Observed]:
    stream = ProbeStream([LeaderRequest(name=NAME).SerializeToString()])
    task = asyncio.ensure_future(election.observe(api.services, stream))  # type: ignore[arg-type]
    try:
        yield Observed(api, stream)
    finally:
        assert not task.done(), task
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert api.services.watches.statistics().streams == 0


@on_stage
async def test_an_observer_hears_every_value_of_every_leader(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    async with observing(api) as observed:
        assert await observed.told() == []
        first = (await elected(api, campaign(api, 1, b"a"))).leader
        assert await observed.told() == [(2, b"e/1", b"a")]
        await proclaim(api, first, b"a2")
        await proclaim(api, first, b"a3")
        assert await observed.told() == [(3, b"e/1", b"a2"), (4, b"e/1", b"a3")]
        waiting = campaign(api, 2, b"b")
        api.put(b"e0", b"not in the line")
        assert await observed.told() == []
        await resign(api, first)
        await elected(api, waiting)
        assert await observed.told() == [(7, b"e/2", b"b")]
        api.revoke(2)
        assert await observed.told() == []
        api.put(b"e/x", b"by hand")
        assert await observed.told() == [(9, b"e/x", b"by hand")]


@on_stage
async def test_an_observer_begins_with_the_present_leader(api: Contenders) -> None:
    api.put(b"e/2", b"first")
    api.put(b"e/1", b"second")
    async with observing(api) as observed:
        assert await observed.told() == [(3, b"e/2", b"first")]


@on_stage
async def test_nobody_is_told_of_who_leads_in_the_middle_of_a_revision(api: Contenders) -> None:
    for key in (b"e/1", b"e/2", b"e/3"):
        api.put(key, key)
    async with observing(api) as observed:
        await observed.told()
        deletes = [
            RequestOp(request_delete_range=DeleteRangeRequest(key=key)) for key in (b"e/1", b"e/2")
        ]
        api.do("KV.Txn", TxnRequest(success=deletes))
        assert await observed.told() == [(5, b"e/3", b"e/3")]


@on_stage
async def test_an_observer_survives_a_compaction(api: Contenders) -> None:
    api.put(b"e/1", b"a")
    async with observing(api) as observed:
        await observed.told()
        api.put(b"e/1", b"b")
        api.do("KV.Compact", CompactionRequest(revision=3))
        api.put(b"e/1", b"c")
        assert await observed.told() == [(3, b"e/1", b"b"), (4, b"e/1", b"c")]
