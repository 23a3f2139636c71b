"""Open the doors that the configuration names: gRPC for clients, HTTP for health and metrics."""

from __future__ import annotations

from contextlib import AsyncExitStack

from chainfire.api.services import Services
from chainfire.config import Config
from chainfire.gateway.grpc_python import GrpcServer, GrpcSettings


async def open_doors(config: Config, services: Services, stack: AsyncExitStack) -> None:
    """Serve; closing `stack` ends what was accepted, then the doors. Raises ConfigError."""
    keepalive = config.grpc
    settings = GrpcSettings(
        max_concurrent_streams=config.limits.max_concurrent_streams,
        keepalive_min_time_seconds=keepalive.grpc_keepalive_min_time_ms / 1000,
        keepalive_interval_seconds=keepalive.grpc_keepalive_interval_ms / 1000,
        keepalive_timeout_seconds=keepalive.grpc_keepalive_timeout_ms / 1000,
    )
    listen = [str(url) for url in config.network.listen_client_urls]
    server = GrpcServer(services, listen, settings)
    stack.push_async_callback(server.aclose)
    await server.start()
