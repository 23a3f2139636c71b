"""All that happened to a cluster, revision by revision, as one of its members tells it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import grpc

from chainfire.proto import kv_pb2, watch_pb2
from chainfire.sim.history import Revision, Violation
from tests.cluster.wire import change_of
from tests.clusters import Member

_BY_LEASE = (kv_pb2.Event.LEASE_EXPIRED, kv_pb2.Event.LEASE_REVOKED)


def feed(member: Member, first: int, last: int) -> Iterator[Revision]:
    """What happened from revision `first` to `last`, by a watch on one member.

    Raises Violation: it would not tell.
    """
    if first > last:
        return
    with grpc.insecure_channel(member.target) as channel:
        watch = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda body: body.SerializeToString(),
            response_deserializer=watch_pb2.WatchResponse.FromString,
        )
        create = watch_pb2.WatchCreateRequest(
            key=b"\0", range_end=b"\0", start_revision=first, reasons=True
        )
        responses = watch(iter([watch_pb2.WatchRequest(create_request=create)]), timeout=60)
        for response in responses:  # which never splits a revision
            if response.canceled:
                raise Violation(f"{member.name} would not tell from {first} on: {response}")
            for main, group in itertools.groupby(
                response.events, lambda event: event.kv.mod_revision
            ):
                events = list(group)
                by_lease = any(event.reason in _BY_LEASE for event in events)
                yield Revision(main, tuple(map(change_of, events)), by_lease)
                if main >= last:
                    return
