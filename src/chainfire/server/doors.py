"""Open the doors that the configuration names: gRPC for clients, HTTP for health and metrics."""

from __future__ import annotations

from contextlib import AsyncExitStack

from chainfire.api.services import Services
from chainfire.config import Config
from chainfire.gateway import http
from chainfire.gateway.grpc_python import GrpcServer, GrpcSettings
from chainfire.metrics import Metrics
from chainfire.node.shell import Node


async def open_doors(config: Config, node: Node, services: Services, stack: AsyncExitStack) -> None:
    """Serve; closing `stack` ends what was accepted, then the doors. Raises ConfigError.

    HTTP opens last and closes last: whoever asks for health during a stop gets an answer.
    """
    network = config.network
    http_urls = [
        str(url) for url in (*network.listen_client_http_urls, *network.listen_metrics_urls)
    ]
    http_server = http.HttpServer(
        http.app(services, Metrics(services, node.statistics)), list(dict.fromkeys(http_urls))
    )
    grpc_server = GrpcServer(
        services, [str(url) for url in network.listen_client_urls], _grpc_settings(config)
    )
    stack.push_async_callback(http_server.aclose)
    stack.push_async_callback(grpc_server.aclose)
    stack.callback(services.serving.set, False)
    await grpc_server.start()
    if http_urls:
        await http_server.start()


def _grpc_settings(config: Config) -> GrpcSettings:
    keepalive = config.grpc
    return GrpcSettings(
        max_concurrent_streams=config.limits.max_concurrent_streams,
        keepalive_min_time_seconds=keepalive.grpc_keepalive_min_time_ms / 1000,
        keepalive_interval_seconds=keepalive.grpc_keepalive_interval_ms / 1000,
        keepalive_timeout_seconds=keepalive.grpc_keepalive_timeout_ms / 1000,
    )
