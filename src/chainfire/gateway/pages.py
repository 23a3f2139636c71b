"""What HTTP serves beside the JSON gateway: health, version, metrics, a few facts (etcd: etcdhttp).

Paths, statuses and bodies are etcd's, down to the line ends that Go writes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chainfire.api.health import CHECKS, Verdict, run_checks, unhealthy_reason
from chainfire.api.services import Services
from chainfire.gateway.openapi import document
from chainfire.metrics import CONTENT_TYPE, Metrics
from chainfire.version import API_VERSION, STORAGE_VERSION, VERSION

LOG_BODY_BYTES_MAX = 4096
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_TEXT = "text/plain; charset=utf-8"
Answer = Callable[[Request], Awaitable[Response]]


def probes(services: Services, metrics: Metrics) -> list[Route]:
    """What `--listen-metrics-urls` serves: health and metrics."""
    routes = [
        _only("GET", "/health", _health(services)),
        _route("/metrics", _metrics(metrics)),
    ]
    for kind, checks in CHECKS.items():
        routes.append(_only("GET", f"/{kind}", _checks(services, kind, None)))
        routes += [
            _only("GET", f"/{kind}/{name}", _checks(services, kind, name)) for name in checks
        ]
    return routes


def pages(
    services: Services, metrics: Metrics, set_log_level: Callable[[str], None]
) -> list[Route]:
    """What clients' URLs serve."""
    return [
        *probes(services, metrics),
        _only("GET", "/version", _version(services)),
        _only("GET", "/openapi.json", _openapi),
        _only("GET", "/debug/vars", _vars(services, metrics)),
        _only("PUT", "/config/local/log", _log_level(set_log_level)),
    ]


def _only(method: str, path: str, answer: Answer) -> Route:
    """A route that refuses every other method, as etcd does."""

    async def endpoint(request: Request) -> Response:
        if request.method != method:
            return go_error("Method Not Allowed", 405, {"Allow": method})
        return await answer(request)

    return _route(path, endpoint)


def _route(path: str, answer: Answer) -> Route:
    """A route for every method, also for those that nobody has heard of."""
    route = Route(path, answer)
    route.methods = None
    return route


def go_error(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """What Go's http.Error writes."""
    return Response(text + "\n", status, {**_NO_SNIFF, **(headers or {})}, media_type=_TEXT)


def _json(value: Any) -> Response:
    body = json.dumps(value, separators=(",", ":"))
    return Response(body, media_type="application/json")


# ── health ──────────────────────────────────────────────────────────────────


def _health(services: Services) -> Answer:
    async def answer(request: Request) -> Response:
        query = request.query_params
        reason = await unhealthy_reason(
            services,
            set(query.getlist("exclude")),
            serializable=query.get("serializable") == "true",
        )
        verdict = {"health": "false" if reason else "true", "reason": reason}
        body = json.dumps(verdict, separators=(",", ":"))
        return go_error(body, 503) if reason else Response(body, media_type=_TEXT)

    return answer


def _checks(services: Services, kind: str, only: str | None) -> Answer:
    async def answer(request: Request) -> Response:
        query = request.query_params
        names = {only} if only else CHECKS[kind].keys() - set(query.getlist("exclude"))
        verdict: Verdict = await run_checks(services, kind, names)
        if not verdict.ok:
            return go_error(verdict.report, 503)
        body = verdict.report + "ok\n" if "verbose" in query else "ok\n"
        return Response(body, headers=_NO_SNIFF, media_type=_TEXT)

    return answer


# ── facts ───────────────────────────────────────────────────────────────────


def _version(services: Services) -> Answer:
    async def answer(_: Request) -> Response:
        return _json(
            {
                "etcdserver": API_VERSION,
                "etcdcluster": services.node.machine.cluster_version or "not_decided",
                "storage": STORAGE_VERSION,
            }
        )

    return answer


def _metrics(metrics: Metrics) -> Answer:
    async def answer(_: Request) -> Response:
        # A thousand lines of text take longer than a turn of the loop should.
        text = await asyncio.to_thread(metrics.exposition, metrics.take())
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return answer


def _vars(services: Services, metrics: Metrics) -> Answer:
    async def answer(_: Request) -> Response:
        status = services.node.overview.status()
        leads = status.leader_id == status.member_id
        return _json(
            {
                "cmdline": sys.argv,
                "version": VERSION,
                "python": sys.version.split()[0],
                "memory": metrics.memory(),
                "raft.status": {
                    "id": f"{status.member_id:x}",
                    "term": status.term,
                    "commit": status.commit_index,
                    "applied": status.applied_index,
                    "lead": f"{status.leader_id:x}",
                    "raftState": "StateLeader" if leads else "StateFollower",
                },
            }
        )

    return answer


async def _openapi(_: Request) -> Response:
    return Response(await asyncio.to_thread(document), media_type="application/json")


def _log_level(set_log_level: Callable[[str], None]) -> Answer:
    async def answer(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > LOG_BODY_BYTES_MAX:
                return go_error("http: request body too large", 413)
        try:
            level = json.loads(body)["Level"].lower()
            set_log_level(level)
        except (ValueError, KeyError, TypeError, AttributeError):
            return go_error('expected {"Level": "debug|info|warn|error"}', 400)
        return Response(status_code=204)

    return answer
