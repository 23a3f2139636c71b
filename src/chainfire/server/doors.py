"""Open the doors that the configuration names: gRPC for clients, HTTP for health and metrics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from chainfire import logs
from chainfire.api.services import Services
from chainfire.config import Config
from chainfire.config.schema import BY_FLAG
from chainfire.errors import ConfigError
from chainfire.gateway.access import Access
from chainfire.gateway.listen import Address, ensure_free
from chainfire.gateway.settings import GrpcSettings
from chainfire.gateway.tls import Certificates
from chainfire.node.shell import Node
from chainfire.server.selfsigned import client_tls
from chainfire.wheel import FAULT

if TYPE_CHECKING:
    from chainfire.config.urls import Url
    from chainfire.gateway.asgi import Application
    from chainfire.gateway.grpc_native import NativeServer
    from chainfire.gateway.grpc_python import GrpcServer
    from chainfire.gateway.http import HttpApp
    from chainfire.metrics import Metrics

log = logging.getLogger(__name__)

AUTO: Final = "auto"
NATIVE: Final = "native"
GRPCIO: Final = "grpcio"


def door_of(config: Config) -> str:
    """Which gRPC server it will be. Raises ConfigError if the one that is asked for cannot be."""
    wanted = config.network.door
    if wanted == NATIVE and FAULT is not None:
        raise ConfigError(f"door: {FAULT}")
    return NATIVE if FAULT is None and wanted != GRPCIO else GRPCIO


async def open_doors(config: Config, node: Node, services: Services, stack: AsyncExitStack) -> None:
    """Serve; closing `stack` ends what was accepted, then the doors. Raises ConfigError.

    HTTP opens last and closes last: whoever asks for health during a stop gets an answer. Its
    streams end when those of gRPC do.
    """
    if config.network.door == AUTO and FAULT is not None:
        log.warning("serving through the portable door", extra={"reason": FAULT})
    certificates = _certificates(config)
    http = _Http(config, node, services, certificates)
    grpc_server = _grpc_server(config, services, http, certificates)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(grpc_server.aclose)
        opened.callback(http.end_streams)
        opened.callback(services.serving.set, False)
        await grpc_server.start()
        await http.open(stack)
        stack.push_async_exit(opened.pop_all())


def ensure_doors_can_open(config: Config) -> None:
    """Raises ConfigError for an address that is taken, or certificates that cannot be used.

    To be asked before anything is written: a data directory keeps the identity of its first start.
    """
    door_of(config)
    network = config.network
    for url in (
        *network.listen_client_urls,
        *network.listen_client_http_urls,
        *network.listen_metrics_urls,
    ):
        ensure_free(Address.of(str(url)))
    if config.tls.cert_file:
        Certificates(config.tls)
    _ensure_names_are_checked(config)


def _ensure_names_are_checked(config: Config) -> None:
    """No listener may leave out what it is to ask of certificates. Raises ConfigError."""
    network, tls = config.network, config.tls
    if door_of(config) == GRPCIO:
        for flag in ("client-crl-file", "client-cert-allowed-hostname"):
            if BY_FLAG[flag].get(config):
                raise ConfigError(f"{flag}: the portable door cannot check it; take --door native")
    if tls.client_cert_allowed_hostname:
        for url in (*network.listen_client_http_urls, *network.listen_metrics_urls):
            if url.is_tls:
                raise ConfigError(f"client-cert-allowed-hostname: it is not checked at {url}")


def _certificates(config: Config) -> Certificates | None:
    tls = client_tls(config)
    if not tls.cert_file:
        return None
    for url in config.network.listen_client_urls:
        if not url.is_tls:
            log.warning("no TLS on this URL, certificates or not", extra={"url": str(url)})
    return Certificates(tls)


def _grpc_server(
    config: Config, services: Services, http: _Http, certificates: Certificates | None
) -> GrpcServer | NativeServer:
    listen = [str(url) for url in config.network.listen_client_urls]
    settings = _grpc_settings(config)
    if door_of(config) == GRPCIO:
        from chainfire.gateway.grpc_python import GrpcServer

        return GrpcServer(services, listen, settings, certificates)
    from chainfire.gateway.grpc_native import NativeServer
    from chainfire.gateway.native_json import direct_routes

    direct = direct_routes(http.access) if config.http.enable_grpc_gateway else {}
    return NativeServer(services, listen, settings, http.application, certificates, direct)


class _Http:
    """What serves HTTP, made when it is first needed: importing it takes a fifth of a second."""

    def __init__(
        self, config: Config, node: Node, services: Services, certificates: Certificates | None
    ) -> None:
        self.access = Access(config.http.cors, config.http.host_whitelist)
        self._config = config
        self._certificates = certificates
        self._node = node
        self._services = services
        self._application: HttpApp | None = None

    def application(self) -> HttpApp:
        """For clients. On whatever thread: the first call is the only one that makes it."""
        from chainfire.gateway.http import HttpApp

        if self._application is None:
            self._application = HttpApp(
                self._services,
                self._metrics(),
                logs.set_level,
                self.access,
                with_gateway=self._config.http.enable_grpc_gateway,
            )
        return self._application

    async def open(self, stack: AsyncExitStack) -> None:
        """Serve the URLs that are for HTTP alone. Raises ConfigError."""
        network = self._config.network
        if network.listen_client_http_urls:
            await self._open(self.application(), network.listen_client_http_urls, stack)
        if network.listen_metrics_urls:
            from chainfire.gateway.http import probe_app

            app = probe_app(self._services, self._metrics())
            await self._open(app, network.listen_metrics_urls, stack)

    def end_streams(self) -> None:
        if self._application is not None:
            self._application.stop()

    async def _open(
        self, application: Application, urls: Sequence[Url], stack: AsyncExitStack
    ) -> None:
        from chainfire.gateway.http_server import HttpServer

        for certificates in dict.fromkeys((None, self._certificates)):
            is_tls = certificates is not None
            chosen = [str(url) for url in urls if url.is_tls == is_tls]
            if chosen:
                server = HttpServer(application, chosen, certificates)
                stack.push_async_callback(server.aclose)
                await server.start()

    def _metrics(self) -> Metrics:
        from chainfire.metrics import Metrics

        return Metrics(self._services, self._node.overview.statistics)


def _grpc_settings(config: Config) -> GrpcSettings:
    keepalive = config.grpc
    return GrpcSettings(
        max_concurrent_streams=config.limits.max_concurrent_streams,
        keepalive_min_time_seconds=keepalive.grpc_keepalive_min_time_ms / 1000,
        keepalive_interval_seconds=keepalive.grpc_keepalive_interval_ms / 1000,
        keepalive_timeout_seconds=keepalive.grpc_keepalive_timeout_ms / 1000,
    )
