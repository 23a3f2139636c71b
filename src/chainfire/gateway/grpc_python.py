"""The portable gRPC door: the method table over grpc.aio's generic handlers, bytes in and out.

For portability, not for speed: grpc.aio itself costs more than everything
behind it. What is added per unary call is one Call, and one future if the
answer does not come at once.

Deadlines and cancellation are gRPC's: they cancel the coroutine, which cancels
the call. On `aclose` accepted unary calls are finished; streams, which have no
end of their own, are told that the server stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

import grpc
from grpc import aio
from grpc.aio import EOF, InternalError  # type: ignore[attr-defined]

from chainfire.api.admission import admitted
from chainfire.api.call import Metadata, answer_to
from chainfire.api.counters import MethodCounters
from chainfire.api.services import Services
from chainfire.api.table import METHODS, Kind, Method, UnaryHandler, run, unknown_method
from chainfire.errors import Code, ConfigError, RequestError, Stopped
from chainfire.gateway.grpc_call import GrpcCall
from chainfire.gateway.listen import addresses, bind
from chainfire.gateway.posting import Posting
from chainfire.gateway.settings import GrpcSettings
from chainfire.gateway.tls import Certificates
from chainfire.gateway.unread import LARGE_BYTES_MIN, Unread

_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_QUIET_SECONDS = 0.02  # without a new call: all that were under way have come
_QUIET_LOOKS_MAX = 10
_Context = Any  # aio.ServicerContext is generic in its stubs only
_LIBRARY_LOG = "grpc._cython.cygrpc"


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """grpc.aio makes an error, with a stack, of each client that goes while it is answered."""
    return not record.getMessage().startswith("ExecuteBatchError")


class GrpcServer:
    """Serves on every URL of `listen`. Create on the loop, `start`, `aclose`."""

    def __init__(
        self,
        services: Services,
        listen: Sequence[str],
        settings: GrpcSettings | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """Raises ConfigError."""
        logging.getLogger(_LIBRARY_LOG).addFilter(_is_worth_a_line)
        self._services = services
        self._addresses = addresses(listen, certificates)
        self._credentials = None if certificates is None else _credentials(certificates)
        self._streams: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._unread = Unread()
        self._refused_at_stop = 0  # calls that came too late
        options = (settings or GrpcSettings()).options(services.limits.max_request_bytes)
        self._server = aio.server(handlers=[_Table(self._handlers())], options=options)
        self.ports: list[int] = []  # as bound, in the order of `listen`; a socket's is 1

    async def start(self) -> None:
        """Listen and serve. Raises ConfigError naming the URL that cannot be had."""
        for address in self._addresses:
            if address.unix_path:
                target = f"unix:{address.unix_path}"
            else:
                host = f"[{address.host}]" if ":" in address.host else address.host
                target = f"{host}:{address.port}"
            try:
                if address.is_tls and self._credentials is not None:
                    port = self._server.add_secure_port(target, self._credentials)
                else:
                    port = self._server.add_insecure_port(target)
                self.ports.append(port)
            except RuntimeError as exc:
                bind(address).close()  # raises with the reason, which grpc keeps to itself
                raise ConfigError(f"cannot listen on {address.url}: {exc}") from exc
        await self._server.start()

    async def aclose(self, grace_seconds: float = 5.0) -> None:
        """Take no new calls, finish accepted ones within the grace, end streams at once."""
        self._stopping = True
        for task in list(self._streams):
            task.cancel()
        # `stop` cancels calls that grpc has not handed over; their callers would take that for
        # their own doing. So they are let in first, and refused.
        seen = -1
        for _ in range(_QUIET_LOOKS_MAX):
            if seen == self._refused_at_stop:
                break
            seen = self._refused_at_stop
            await asyncio.sleep(_QUIET_SECONDS)
        await self._server.stop(grace_seconds)

    # ── handlers, made once per method ──────────────────────────────────────

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        made: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        for path, method in METHODS.items():
            counters = self._services.counters.method(path)
            if method.unary is not None:
                unary = self._unary(path, method.unary, counters)
                made[path] = grpc.unary_unary_rpc_method_handler(unary)
            elif method.kind is Kind.SERVER_STREAM:
                made[path] = grpc.unary_stream_rpc_method_handler(
                    self._server_stream(method, counters)
                )
            else:
                made[path] = grpc.stream_stream_rpc_method_handler(self._bidi(method, counters))
        return made

    def _unary(
        self, path: str, handler: UnaryHandler, counters: MethodCounters
    ) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        services = self._services
        totals = services.counters
        loop = asyncio.get_running_loop()

        async def serve(request: bytes, context: _Context) -> bytes:
            begun = perf_counter()
            counters.started += 1
            counters.received_messages += 1
            totals.received_bytes += len(request)
            if self._stopping:
                self._refused_at_stop += 1
                counters.handled[Code.UNAVAILABLE] += 1
                return _refuse(context, Stopped())
            remaining = context.time_remaining()
            call = GrpcCall(
                self._unread,
                services,
                path,
                request,
                context.invocation_metadata(),
                None if remaining is None else loop.time() + remaining,
            )
            run(handler, call)
            if not call.finished:
                call.waiter = loop.create_future()
                try:
                    await call.waiter
                except asyncio.CancelledError:
                    call.cancel()
                    counters.handled[Code.CANCELLED] += 1
                    raise
            if counters.handling is not None:
                counters.handling.observe(perf_counter() - begun)
            error = call.error
            if error is not None:
                counters.handled[error.code] += 1
                return _refuse(context, error)
            counters.handled[Code.OK] += 1
            counters.sent_messages += 1
            size = len(call.body)
            totals.sent_bytes += size
            if size >= LARGE_BYTES_MIN:
                self._unread.sent(size)
                context.add_done_callback(lambda _: self._unread.taken(size))
            return call.body

        return serve

    def _server_stream(
        self, method: Method, counters: MethodCounters
    ) -> Callable[[bytes, _Context], Awaitable[None]]:
        async def serve(request: bytes, context: _Context) -> None:
            counters.received_messages += 1
            stream = GrpcStream(self._services, method.path, counters, context, request)
            await self._serve_stream(method, counters, stream, context)

        return serve

    def _bidi(
        self, method: Method, counters: MethodCounters
    ) -> Callable[[Any, _Context], Awaitable[None]]:
        async def serve(_requests: Any, context: _Context) -> None:
            stream = GrpcStream(self._services, method.path, counters, context, b"")
            await self._serve_stream(method, counters, stream, context)

        return serve

    async def _serve_stream(
        self, method: Method, counters: MethodCounters, stream: GrpcStream, context: _Context
    ) -> None:
        assert method.stream is not None
        counters.started += 1
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        error: RequestError | None = None
        try:
            async with admitted(self._services, stream.metadata):
                await stream.run(method.stream(self._services, stream))
        except asyncio.CancelledError:
            if not self._stopping:
                counters.handled[Code.CANCELLED] += 1
                raise
            error = Stopped()
        except Exception as exc:
            error = answer_to(exc, self._services, method.path)
        finally:
            self._streams.discard(task)
            stream.end_posting()
        await stream.written()
        counters.handled[Code.OK if error is None else error.code] += 1
        if error is not None:
            _refuse(context, error)


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Shows, at each handshake, what the files hold by then. Raises ConfigError."""
    config = certificates.config
    if config.cipher_suites or config.tls_min_version != "TLS1.2" or config.tls_max_version:
        raise ConfigError(
            "cipher-suites, tls-min-version, tls-max-version: the door grpcio cannot choose them; "
            "leave them out or install chainfire-native"
        )
    given = -1

    def current() -> grpc.ServerCertificateConfiguration:
        pem = certificates.pem
        return grpc.ssl_server_certificate_configuration(
            [(pem.key, pem.certificate)], root_certificates=pem.client_ca
        )

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        generation = certificates.refresh()
        if generation == given:
            return None
        given = generation
        return current()

    required = certificates.pem.client_ca is not None
    # None is "as before"; the stub does not know.
    return grpc.dynamic_ssl_server_credentials(current(), fetch, required)  # type: ignore[arg-type]


def _refuse(context: _Context, error: RequestError) -> bytes:
    """End the call with the error's status. (`abort` would raise through grpc's own frames.)"""
    context.set_code(_STATUS[error.code])
    context.set_details(error.message)
    return b""


class _Table(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds a path's handler; paths that do not exist get grpc-go's answer."""

    def __init__(self, handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._handlers = handlers

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        path: str = handler_call_details.method
        handler = self._handlers.get(path)
        if handler is not None:
            return handler

        async def refuse(_requests: Any, context: _Context) -> None:
            _refuse(context, unknown_method(path))

        return grpc.stream_stream_rpc_method_handler(refuse)


class GrpcStream(Posting):
    """A streaming call of grpc.aio, as `api.call.Stream`."""

    def __init__(
        self,
        services: Services,
        method: str,
        counters: MethodCounters,
        context: _Context,
        request: bytes,
    ) -> None:
        super().__init__()
        remaining = context.time_remaining()
        self.method = method
        self.request = request
        self.metadata: Metadata = context.invocation_metadata()
        self.deadline: float | None = None
        if remaining is not None:
            self.deadline = asyncio.get_running_loop().time() + remaining
        self.peer: str = context.peer()
        self._totals = services.counters
        self._counters = counters
        self._context = context
        self._totals.received_bytes += len(request)
        self._writing: asyncio.Future[None] | None = None

    async def send(self, body: bytes) -> None:
        self._counters.sent_messages += 1
        self._totals.sent_bytes += len(body)
        self._writing = asyncio.ensure_future(self._context.write(body))
        self._writing.add_done_callback(_retrieve)
        try:
            await asyncio.shield(self._writing)
        except InternalError as exc:  # the client has gone, and the task hears of it too late
            raise asyncio.CancelledError from exc

    async def written(self) -> None:
        """A write under way has ended. grpc sends no status while there is one, ever after."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        read = await self._context.read()
        if read is EOF:
            raise StopAsyncIteration
        body: bytes = read
        self._counters.received_messages += 1
        self._totals.received_bytes += len(body)
        return body


def _retrieve(write: asyncio.Future[None]) -> None:
    """Its error is looked at, whoever waited for it and was cancelled."""
    if not write.cancelled():
        write.exception()
