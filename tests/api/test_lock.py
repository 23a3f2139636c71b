"""The Lock service: who gets it, who never does, and what is left behind."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from chainfire.api.places import Places
from chainfire.api.services import Limits
from chainfire.command import CommandKind
from chainfire.errors import (
    EmptyKey,
    LeaseNotFound,
    Malformed,
    NoSpace,
    RequestDeadlineExceeded,
    RequestTooLarge,
    SessionExpired,
    Stopped,
    Timeout,
)
from chainfire.mvcc import read
from chainfire.mvcc.later import Ranges
from chainfire.proto.kv_pb2 import Compare, PutRequest, RequestOp, TxnRequest
from chainfire.proto.lock_pb2 import LockRequest, LockResponse, UnlockRequest, UnlockResponse
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from chainfire.types import Nobody
from tests.api.contenders import Contenders, on_stage
from tests.api.fake_node import Probe


def lock(api: Contenders, lease: int = 0, name: bytes = b"l") -> Probe:
    return api.start("/v3lockpb.Lock/Lock", LockRequest(name=name, lease=lease))


async def cancelled_on_its_way(api: Contenders, lease: int = 0) -> None:
    """A Lock whose first command is out when its caller goes, and is carried out later."""
    api.node.held = True
    call = lock(api, lease)
    await api.settled()
    call.cancel()
    await api.settled()
    api.node.held = False
    api.node.release()
    await api.settled()


def unlock(api: Contenders, key: bytes) -> object:
    call = api.start("/v3lockpb.Lock/Unlock", UnlockRequest(key=key))
    return UnlockResponse.FromString(call.answers[0])


async def won(api: Contenders, call: Probe) -> LockResponse:
    answer = await api.answer(call)
    assert isinstance(answer, LockResponse), answer
    return answer


@on_stage
async def test_a_free_lock_is_had_at_once(api: Contenders) -> None:
    api.grant(0x2A)
    answer = await won(api, lock(api, 0x2A))
    assert (answer.key, answer.revision, answer.header.revision) == (b"l/2a", 2, 2)
    [kv] = api.kvs()
    assert (kv.key, kv.value, kv.lease) == (b"l/2a", b"", 0x2A)


@on_stage
async def test_keys_are_named_as_etcds_recipe_names_them(api: Contenders) -> None:
    api.grant(-31)
    assert (await won(api, lock(api, -31, b""))).key == b"/-1f"


@on_stage
async def test_it_is_handed_over_in_the_order_of_the_line(api: Contenders) -> None:
    for lease in (1, 2, 3):
        api.grant(lease)
    first, second, third = lock(api, 3), lock(api, 1), lock(api, 2)
    await won(api, first)
    await api.settled()
    assert not second.answers and not third.answers
    unlock(api, b"l/3")
    answer = await won(api, second)
    assert (answer.key, answer.revision) == (b"l/1", 3)
    assert answer.header.revision == 5
    await api.settled()
    assert not third.answers
    unlock(api, b"l/1")
    assert (await won(api, third)).revision == 4


@on_stage
async def test_nobody_looks_along_the_line_while_the_store_may_not_be_read(
    api: Contenders,
) -> None:
    for lease in (1, 2):
        api.grant(lease)
    await won(api, lock(api, 1))
    looks = len(api.node.work)
    api.node.is_barred = True
    second = lock(api, 2)
    await api.settled()
    assert (api.node.machine.revision, len(api.node.work)) == (3, looks)
    api.node.is_barred = False
    api.node.release()
    await api.settled()
    assert len(api.node.work) > looks
    unlock(api, b"l/1")
    await won(api, second)


@on_stage
async def test_locks_of_other_names_are_other_locks(api: Contenders) -> None:
    for lease in (1, 2, 3):
        api.grant(lease)
    await won(api, lock(api, 1, b"l"))
    await won(api, lock(api, 2, b"l0"))
    await won(api, lock(api, 3, b"l/x"))


@on_stage
async def test_contenders_by_etcds_recipe_stand_in_the_same_line(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    recipe = TxnRequest(
        compare=[Compare(key=b"l/1", target=Compare.CREATE)],
        success=[RequestOp(request_put=PutRequest(key=b"l/1", lease=1))],
    )
    api.do("KV.Txn", recipe)
    waiting = lock(api, 2)
    await api.settled()
    assert not waiting.answers
    api.delete(b"l/1")
    assert (await won(api, waiting)).key == b"l/2"


@on_stage
async def test_who_loses_its_lease_while_it_waits_never_gets_it(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await won(api, lock(api, 1))
    waiting = lock(api, 2)
    await api.settled()
    api.revoke(2)
    assert isinstance(await api.answer(waiting), SessionExpired)
    unlock(api, b"l/1")
    assert api.keys() == []


@on_stage
async def test_who_loses_its_key_as_it_becomes_free_does_not_get_it(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await won(api, lock(api, 1))
    waiting = lock(api, 2)
    await api.settled()
    api.revoke(1)
    api.revoke(2)
    assert isinstance(await api.answer(waiting), SessionExpired)


@on_stage
async def test_ownership_is_looked_at_again_before_the_answer(api: Contenders) -> None:
    """The lease ends after the line has moved on and before the member knows that it may say so."""
    api.grant(1)
    api.grant(2)
    await won(api, lock(api, 1))
    waiting = lock(api, 2)
    await api.settled()
    unlock(api, b"l/1")
    api.node.held = True  # the linearizable read takes its time
    await api.settled()
    assert not waiting.answers
    api.node.held = False
    api.revoke(2)
    assert isinstance(await api.answer(waiting), SessionExpired)


@on_stage
async def test_a_key_that_was_made_anew_is_another_place_in_the_line(api: Contenders) -> None:
    for lease in (1, 2, 3):
        api.grant(lease)
    await won(api, lock(api, 1))
    waiting = lock(api, 2)
    await api.settled()
    api.do(
        "KV.Txn",
        TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"l/3", lease=3))]),
    )
    api.delete(b"l/2")
    api.put(b"l/2", lease=2)
    assert isinstance(await api.answer(waiting), SessionExpired)


@on_stage
async def test_the_holder_may_ask_again(api: Contenders) -> None:
    api.grant(1)
    await won(api, lock(api, 1))
    assert (await won(api, lock(api, 1))).revision == 2
    assert api.keys() == [b"l/1"]


@on_stage
async def test_who_waits_at_a_member_that_was_far_behind_waits_on(api: Contenders) -> None:
    """It takes a snapshot: what has happened since is compacted, and no watch tells of it."""
    for lease in (1, 2):
        api.grant(lease)
    await won(api, lock(api, 1))
    waiting = lock(api, 2)
    await api.settled()
    [stream] = api.services.watches._streams
    assert stream.listener is not None
    stream.listener.ended(2)
    await api.settled()
    assert not waiting.answers
    unlock(api, b"l/1")
    assert (await won(api, waiting)).key == b"l/2"


# ── who goes away ───────────────────────────────────────────────────────────


@on_stage
async def test_a_cancelled_waiter_leaves_no_key_and_holds_up_nobody(api: Contenders) -> None:
    for lease in (1, 2, 3):
        api.grant(lease)
    await won(api, lock(api, 1))
    second, third = lock(api, 2), lock(api, 3)
    await api.settled()
    assert api.keys() == [b"l/1", b"l/2", b"l/3"]
    second.cancel()
    await api.settled()
    assert api.keys() == [b"l/1", b"l/3"]
    unlock(api, b"l/1")
    assert (await won(api, third)).key == b"l/3"
    assert second.answers == []


@on_stage
async def test_who_is_gone_before_its_key_was_put_leaves_none(api: Contenders) -> None:
    api.grant(1)
    await cancelled_on_its_way(api, 1)
    assert api.keys() == []


@on_stage
async def test_a_call_that_is_cancelled_takes_no_key_away_that_was_there(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await won(api, lock(api, 1))
    waiting, again = lock(api, 2), lock(api, 2)
    await api.settled()
    again.cancel()
    await api.settled()
    unlock(api, b"l/1")
    assert (await won(api, waiting)).key == b"l/2"


@on_stage
async def test_a_call_that_is_cancelled_leaves_its_place_to_another_of_its_session(
    api: Contenders,
) -> None:
    """Its client has lost patience and asked again, before this member heard that it had."""
    for lease in (1, 2, 3):
        api.grant(lease)
    await won(api, lock(api, 1))
    first = lock(api, 2)
    await api.settled()
    third, again = lock(api, 3), lock(api, 2)
    await api.settled()
    first.cancel()
    await api.settled()
    unlock(api, b"l/1")
    assert (await won(api, again)).key == b"l/2"
    assert not third.answers
    unlock(api, b"l/2")
    assert (await won(api, third)).key == b"l/3"
    assert len(api.services.places) == 0


@on_stage
async def test_who_got_it_keeps_it_when_another_call_of_its_session_is_cancelled(
    api: Contenders,
) -> None:
    for lease in (1, 2):
        api.grant(lease)
    await won(api, lock(api, 1))
    first = lock(api, 2)
    await api.settled()
    unlock(api, b"l/1")
    api.node.held = True  # the linearizable read of the first one takes its time
    await api.settled()
    assert not first.answers
    api.node.held = False
    again = lock(api, 2)
    assert (await won(api, again)).key == b"l/2"
    first.cancel()
    await api.settled()
    assert api.keys() == [b"l/2"]


@on_stage
async def test_the_last_call_of_a_session_that_is_cancelled_removes_the_key(
    api: Contenders,
) -> None:
    for lease in (1, 2):
        api.grant(lease)
    await won(api, lock(api, 1))
    first = lock(api, 2)
    await api.settled()
    again = lock(api, 2)
    await api.settled()
    first.cancel()
    await api.settled()
    assert api.keys() == [b"l/1", b"l/2"]
    again.cancel()
    await api.settled()
    assert api.keys() == [b"l/1"]
    assert len(api.services.places) == 0


@on_stage
async def test_a_call_that_is_given_up_late_takes_nothing_from_one_at_another_member(
    api: Contenders,
) -> None:
    """Its member was cut off: what it has its key removed with arrives when the line has moved."""
    for lease in (1, 2, 3):
        api.grant(lease)
    await won(api, lock(api, 1))
    first = lock(api, 2)
    await api.settled()
    third = lock(api, 3)
    await api.settled()
    api.services.places = Places()  # as at another member
    again = lock(api, 2)
    await api.settled()
    api.node.held = True
    first.cancel()
    await api.settled()
    [removal] = api.node._commands
    api.node._commands.clear()
    api.node.held = False
    unlock(api, b"l/1")
    assert (await won(api, again)).revision == 3
    api.node._commands = [removal]
    api.node.release()
    await api.settled()
    assert api.keys() == [b"l/2", b"l/3"]
    assert not third.answers


@on_stage
async def test_nobody_waits_longer_than_its_deadline(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await won(api, lock(api, 1))
    call = Probe(
        api.services,
        "/v3lockpb.Lock/Lock",
        LockRequest(name=b"l", lease=2).SerializeToString(),
        (),
        asyncio.get_running_loop().time() + 0.01,
    )
    call.answers = []
    from chainfire.api.lock import lock as handler

    handler(api.services, call)
    assert isinstance(await api.answer(call), RequestDeadlineExceeded)
    await api.settled()
    assert api.keys() == [b"l/1"]


@on_stage
async def test_a_member_that_stops_says_so_to_who_waits(api: Contenders) -> None:
    api.grant(1)
    api.grant(2)
    await won(api, lock(api, 1))
    waiting = lock(api, 2)
    await api.settled()
    api.services.serving.set(False)
    assert isinstance(await api.answer(waiting), Stopped)
    await api.settled()
    assert api.keys() == [b"l/1"]
    assert api.services.serving.waiting == {}


@on_stage
async def test_an_unknown_outcome_removes_nothing(api: Contenders) -> None:
    """The key was put, and the answer is lost: it may be an earlier call's, which holds it."""
    api.grant(1)
    api.node.held = True
    call = lock(api, 1)
    await api.settled()
    [(data, pending)] = api.node._commands
    api.node.held = False
    pending.refused(Timeout())
    api.node._commands = [(data, Nobody())]
    api.node.release()
    assert isinstance(await api.answer(call), Timeout)
    api.node.release()
    await api.settled()
    assert api.keys() == [b"l/1"]
    api.revoke(1)
    await api.settled()
    assert api.keys() == []


# ── leases ──────────────────────────────────────────────────────────────────


@on_stage
async def test_without_a_lease_one_of_a_minute_is_granted(api: Contenders) -> None:
    answer = await won(api, lock(api))
    [kv] = api.kvs()
    assert kv.lease > 0
    assert answer.key == b"l/%x" % kv.lease
    granted = api.node.machine.leases.get(0, kv.lease)
    assert granted is not None
    assert granted.ttl_ms == 60_000


@on_stage
async def test_a_granted_lease_goes_with_a_cancelled_call(api: Contenders) -> None:
    await won(api, lock(api))
    waiting = lock(api)
    await api.settled()
    assert len(api.node.machine.leases) == 2
    waiting.cancel()
    await api.settled()
    assert len(api.node.machine.leases) == 1
    assert len(api.keys()) == 1


@on_stage
async def test_a_call_that_is_cancelled_while_its_lease_is_granted_leaves_none(
    api: Contenders,
) -> None:
    await cancelled_on_its_way(api)
    assert api.node.proposed == [CommandKind.LEASE_GRANT, CommandKind.LEASE_REVOKE]
    assert len(api.node.machine.leases) == 0


@on_stage
async def test_an_unknown_lease_gets_nothing(api: Contenders) -> None:
    assert isinstance(await api.answer(lock(api, 77)), LeaseNotFound)
    assert api.keys() == []


# ── bad input, alarms ───────────────────────────────────────────────────────


@on_stage
async def test_bytes_that_are_no_request_are_refused(api: Contenders) -> None:
    call = api.start("/v3lockpb.Lock/Lock", b"\xff")
    assert isinstance(await api.answer(call), Malformed)
    (answer,) = api.start("/v3lockpb.Lock/Unlock", UnlockRequest()).answers
    assert isinstance(answer, EmptyKey)


@on_stage
async def test_a_name_that_is_too_long_is_refused(api: Contenders) -> None:
    api.grant(1)
    name = b"x" * Limits().max_request_bytes
    assert isinstance(await api.answer(lock(api, 1, name)), RequestTooLarge)


@on_stage
async def test_a_full_cluster_locks_nothing(api: Contenders) -> None:
    api.grant(1)
    raised = AlarmRequest(action=AlarmRequest.ACTIVATE, alarm=NOSPACE, memberID=1)
    api.do("Maintenance.Alarm", raised)
    assert isinstance(await api.answer(lock(api, 1)), NoSpace)
    assert isinstance(await api.answer(lock(api)), NoSpace)


@on_stage
async def test_of_a_line_nothing_is_read_where_a_claim_is_applied(api: Contenders) -> None:
    """Or a thousand that come together would keep every member busy for seconds."""
    for lease in (1, 2):
        api.grant(lease)
    first = await won(api, lock(api, 1))
    with mock.patch.object(Ranges, "read") as read:
        call = lock(api, 2)
        await api.settled()
    read.assert_not_called()
    assert not call.answers
    unlock(api, first.key)
    assert (await won(api, call)).key.endswith(b"/2")


@pytest.mark.interpreted
@on_stage
async def test_one_walk_along_the_line_is_enough_for_all_who_come_together(api: Contenders) -> None:
    """Each has a few milliseconds at once: a thousand of them would stop the loop for seconds."""
    for lease in range(1, 21):
        api.grant(lease)
    with mock.patch.object(read, "_all", side_effect=read._all) as walks:
        api.node.held = True
        calls = [lock(api, lease) for lease in range(1, 21)]
        await api.settled()
        api.node.held = False
        api.node.release()
        await api.settled()
        assert sum(bool(call.answers) for call in calls) == 1
        calls[3].cancel()
        for call in (*calls[:3], *calls[4:]):
            unlock(api, (await won(api, call)).key)
    assert walks.call_count == 1


@pytest.mark.parametrize("count", [40])
def test_many_contenders_get_it_one_after_the_other(count: int) -> None:
    async def scene(api: Contenders) -> None:
        for lease in range(1, count + 1):
            api.grant(lease)
        calls = [lock(api, lease) for lease in range(1, count + 1)]
        tokens = []
        for call in calls:
            answer = await won(api, call)
            await api.settled()
            assert sum(bool(other.answers) for other in calls) == len(tokens) + 1
            tokens.append(answer.revision)
            unlock(api, answer.key)
        assert tokens == sorted(tokens)
        assert api.keys() == []

    on_stage(scene)()
