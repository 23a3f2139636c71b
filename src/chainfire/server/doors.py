"""Open the doors that the configuration names: gRPC for clients, HTTP for health and metrics."""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from chainfire.api.services import Services
from chainfire.config import Config
from chainfire.errors import ConfigError
from chainfire.gateway.settings import GrpcSettings
from chainfire.node.shell import Node

if TYPE_CHECKING:
    from chainfire.gateway.asgi import Application
    from chainfire.gateway.grpc_native import NativeServer
    from chainfire.gateway.grpc_python import GrpcServer

NATIVE: Final = "native"
GRPCIO: Final = "grpcio"


def door_of(config: Config) -> str:
    """Which gRPC server it will be. Raises ConfigError if the one that is asked for is missing."""
    wanted = config.network.door
    is_installed = find_spec("chainfire_native") is not None
    if wanted == NATIVE and not is_installed:
        raise ConfigError("door: native needs the wheel chainfire-native, which is not installed")
    return NATIVE if is_installed and wanted != GRPCIO else GRPCIO


async def open_doors(config: Config, node: Node, services: Services, stack: AsyncExitStack) -> None:
    """Serve; closing `stack` ends what was accepted, then the doors. Raises ConfigError.

    HTTP opens last and closes last: whoever asks for health during a stop gets an answer.
    """
    network = config.network
    grpc_server = _grpc_server(config, node, services)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(grpc_server.aclose)
        opened.callback(services.serving.set, False)
        await grpc_server.start()
        urls = (*network.listen_client_http_urls, *network.listen_metrics_urls)
        if urls:
            await _open_http(list(dict.fromkeys(map(str, urls))), node, services, stack)
        stack.push_async_exit(opened.pop_all())


def _grpc_server(config: Config, node: Node, services: Services) -> GrpcServer | NativeServer:
    listen = [str(url) for url in config.network.listen_client_urls]
    if door_of(config) == GRPCIO:
        from chainfire.gateway.grpc_python import GrpcServer

        return GrpcServer(services, listen, _grpc_settings(config))
    from chainfire.gateway.grpc_native import NativeServer

    settings = _grpc_settings(config)
    return NativeServer(services, listen, settings, lambda: _application(node, services))


def _application(node: Node, services: Services) -> Application:
    # Imported here: it takes a fifth of a second, while clients are served already.
    from chainfire.gateway import http
    from chainfire.metrics import Metrics

    return http.app(services, Metrics(services, node.statistics))


async def _open_http(
    urls: list[str], node: Node, services: Services, stack: AsyncExitStack
) -> None:
    from chainfire.gateway import http
    from chainfire.metrics import Metrics

    server = http.HttpServer(http.app(services, Metrics(services, node.statistics)), urls)
    stack.push_async_callback(server.aclose)
    await server.start()


def _grpc_settings(config: Config) -> GrpcSettings:
    keepalive = config.grpc
    return GrpcSettings(
        max_concurrent_streams=config.limits.max_concurrent_streams,
        keepalive_min_time_seconds=keepalive.grpc_keepalive_min_time_ms / 1000,
        keepalive_interval_seconds=keepalive.grpc_keepalive_interval_ms / 1000,
        keepalive_timeout_seconds=keepalive.grpc_keepalive_timeout_ms / 1000,
    )
