"""What a stream is told beside events: fields of a WatchResponse, to follow its header."""

from __future__ import annotations

from chainfire.proto.watch_pb2 import WatchResponse

NOBODY = -1  # the watch id of answers that concern no watcher


def created_fields(watch_id: int) -> bytes:
    """The answer to a create request: what the watcher is told follows."""
    return WatchResponse(watch_id=watch_id, created=True).SerializeToString()


def refused_fields(reason: str) -> bytes:
    """A watcher that was not made; the stream goes on."""
    return WatchResponse(
        watch_id=NOBODY, created=True, canceled=True, cancel_reason=reason
    ).SerializeToString()


def canceled_fields(watch_id: int, reason: str = "") -> bytes:
    """The last that is said under this id."""
    return WatchResponse(watch_id=watch_id, canceled=True, cancel_reason=reason).SerializeToString()


def compacted_fields(compacted: int) -> bytes:
    """Without the watch id. As etcd: nothing can be said of the revision then."""
    return WatchResponse(canceled=True, compact_revision=compacted).SerializeToString()


def progress_fields() -> bytes:
    """All watchers of the stream were told of everything up to the header's revision."""
    return WatchResponse(watch_id=NOBODY).SerializeToString()
