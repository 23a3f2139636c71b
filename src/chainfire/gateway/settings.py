"""What the gRPC doors are told by the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RECEIVE_OVERHEAD_BYTES: Final = 512 * 1024  # etcd: grpcOverheadBytes
_UNLIMITED = -1
_ANY_NUMBER = 2**31 - 1


@dataclass(slots=True, frozen=True)
class GrpcSettings:
    """etcd's flags of the same names."""

    max_concurrent_streams: int = 2**32 - 1
    keepalive_min_time_seconds: float = 5.0  # clients that ping more often are sent away
    keepalive_interval_seconds: float = 7200.0  # of our own pings; 0 = none
    keepalive_timeout_seconds: float = 20.0

    def options(self, max_request_bytes: int) -> list[tuple[str, int]]:
        """As grpcio wants them."""
        options = [
            ("grpc.max_receive_message_length", max_request_bytes + RECEIVE_OVERHEAD_BYTES),
            ("grpc.max_send_message_length", _UNLIMITED),
            ("grpc.max_concurrent_streams", min(self.max_concurrent_streams, _ANY_NUMBER)),
            (
                "grpc.http2.min_ping_interval_without_data_ms",
                int(self.keepalive_min_time_seconds * 1000),
            ),
            ("grpc.keepalive_permit_without_calls", 0),
            ("grpc.so_reuseport", 0),  # an occupied port is an error
            # By default grpc cancels calls by lot once a thousand wait to be taken up.
            ("grpc.server.max_pending_requests", _ANY_NUMBER),
            ("grpc.server.max_pending_requests_hard_limit", _ANY_NUMBER),
        ]
        if self.keepalive_interval_seconds > 0:
            options += [
                ("grpc.keepalive_time_ms", int(self.keepalive_interval_seconds * 1000)),
                ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout_seconds * 1000)),
            ]
        return options
