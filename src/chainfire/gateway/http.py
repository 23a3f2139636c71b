"""The HTTP door: one ASGI application for health, readiness, version and metrics (etcd §6.1).

Paths, statuses and bodies are etcd's, down to the line ends that Go writes.
uvicorn serves it on sockets of ours, inside our loop, without signal handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chainfire.api.health import CHECKS, Verdict, run_checks, unhealthy_reason
from chainfire.api.services import Services
from chainfire.gateway.listen import Address, bind
from chainfire.metrics import CONTENT_TYPE, Metrics
from chainfire.version import API_VERSION, STORAGE_VERSION

_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_TEXT = "text/plain; charset=utf-8"
_Answer = Callable[[Request], Awaitable[Response]]


def app(services: Services, metrics: Metrics) -> Starlette:
    """The application. Later doors add their routes to it."""
    routes = [
        _get("/health", _health(services)),
        _get("/version", _version(services)),
        Route("/metrics", _metrics(metrics), methods=["GET"]),
    ]
    for kind, checks in CHECKS.items():
        routes.append(_get(f"/{kind}", _checks(services, kind, None)))
        routes += [_get(f"/{kind}/{name}", _checks(services, kind, name)) for name in checks]
    return Starlette(routes=routes, exception_handlers={404: _not_found})


# ── answers ─────────────────────────────────────────────────────────────────


def _get(path: str, answer: _Answer) -> Route:
    """A route that refuses every method but GET, as etcd does."""

    async def endpoint(request: Request) -> Response:
        if request.method != "GET":
            return _go_error("Method Not Allowed", 405, {"Allow": "GET"})
        return await answer(request)

    return Route(path, endpoint, methods=_METHODS)


def _go_error(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """What Go's http.Error writes."""
    return Response(text + "\n", status, {**_NO_SNIFF, **(headers or {})}, media_type=_TEXT)


async def _not_found(_: Request, __: Exception) -> Response:
    return _go_error("404 page not found", 404)


def _health(services: Services) -> _Answer:
    async def answer(request: Request) -> Response:
        query = request.query_params
        reason = await unhealthy_reason(
            services,
            set(query.getlist("exclude")),
            serializable=query.get("serializable") == "true",
        )
        verdict = {"health": "false" if reason else "true", "reason": reason}
        body = json.dumps(verdict, separators=(",", ":"))
        return _go_error(body, 503) if reason else Response(body, media_type=_TEXT)

    return answer


def _checks(services: Services, kind: str, only: str | None) -> _Answer:
    async def answer(request: Request) -> Response:
        query = request.query_params
        names = {only} if only else CHECKS[kind].keys() - set(query.getlist("exclude"))
        verdict: Verdict = await run_checks(services, kind, names)
        if not verdict.ok:
            return _go_error(verdict.report, 503)
        body = verdict.report + "ok\n" if "verbose" in query else "ok\n"
        return Response(body, headers=_NO_SNIFF, media_type=_TEXT)

    return answer


def _version(services: Services) -> _Answer:
    async def answer(_: Request) -> Response:
        versions = {
            "etcdserver": API_VERSION,
            "etcdcluster": services.node.machine.cluster_version or "not_decided",
            "storage": STORAGE_VERSION,
        }
        body = json.dumps(versions, separators=(",", ":"))
        return Response(body, media_type="application/json")

    return answer


def _metrics(metrics: Metrics) -> _Answer:
    async def answer(_: Request) -> Response:
        # A thousand lines of text take longer than a turn of the loop should.
        text = await asyncio.to_thread(metrics.exposition, metrics.take())
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return answer


# ── serving ─────────────────────────────────────────────────────────────────


class HttpServer:
    """Serves an application on every URL of `listen`. Create on the loop, `start`, `aclose`."""

    def __init__(self, application: Starlette, listen: Sequence[str]) -> None:
        """Raises ConfigError."""
        self._addresses = [Address.of(url) for url in listen]
        self._application = application
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self.ports: list[int] = []  # as bound, in the order of `listen`; a socket's is 0

    async def start(self) -> None:
        """Return when requests are taken. Raises ConfigError naming the URL that cannot be had."""
        with contextlib.ExitStack() as opened_so_far:
            sockets = [opened_so_far.enter_context(bind(each)) for each in self._addresses]
            opened_so_far.pop_all()  # uvicorn closes them
        self.ports = [
            0 if opened.family == socket.AF_UNIX else opened.getsockname()[1] for opened in sockets
        ]
        config = uvicorn.Config(
            self._application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets), name="http")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((ready, self._task), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task

    async def aclose(self) -> None:
        """Finish what is being answered, then stop. Idempotent."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


class _Uvicorn(uvicorn.Server):
    """uvicorn inside a program of ours: it says when it serves and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
