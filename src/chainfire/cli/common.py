"""What the commands share: options of every client command, and opening the client.

The options may stand before the command's name or behind it; behind it counts.
Environment: CHAINFIRE_ENDPOINTS, else ETCDCTL_ENDPOINTS; so for cacert, cert, key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chainfire.cli.failures import explain
from chainfire.errors import ChainfireError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from chainfire.client.calls import Call
    from chainfire.client.sync import SyncClient
    from chainfire.client.tls import Tls

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound="Message")
DEFAULT_ENDPOINT = "127.0.0.1:2379"


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Go's notation (`500ms`, `5s`) or a plain number of seconds."""
    if value is None:
        return None

    from chainfire.config.kinds import parse_duration_ns
    from chainfire.config.urls import BadValue

    try:
        seconds = parse_duration_ns(f"{value}s" if value.isdecimal() else value) / 10**9
    except BadValue as exc:
        raise click.BadParameter(str(exc)) from exc
    if seconds <= 0:
        raise click.BadParameter("must be more than 0")
    return seconds


_TLS_HELP = {
    "cacert": "Whose certificates servers must show (PEM).",
    "cert": "Certificate that is shown to servers (PEM).",
    "key": "Its key (PEM).",
}
TLS_OPTIONS = tuple(
    click.option(
        f"--{name}",
        f"tls_{name}",  # `key` is many a command's argument
        metavar="FILE",
        help=f"{text}  [env: CHAINFIRE_{name.upper()}, ETCDCTL_{name.upper()}]",
    )
    for name, text in _TLS_HELP.items()
)
_OPTIONS = (
    click.option(
        "--endpoints",
        metavar="URLS",
        help=f"Members to ask, comma-separated.  [default: {DEFAULT_ENDPOINT}; "
        "env: CHAINFIRE_ENDPOINTS, ETCDCTL_ENDPOINTS]",
    ),
    click.option(
        "-w",
        "--write-out",
        type=click.Choice(["simple", "fields", "json", "table"]),
        help="How to print the answer.  [default: simple]",
    ),
    click.option("--hex", is_flag=True, default=None, help="Print keys, values and ids as hex."),
    click.option(
        "--command-timeout",
        metavar="DURATION",
        callback=_seconds,
        help="Give up after this time.  [default: 5s]",
    ),
    click.option(
        "--dial-timeout",
        metavar="DURATION",
        callback=_seconds,
        help="Give up an endpoint that does not connect in this time.  [default: 2s]",
    ),
    *TLS_OPTIONS,
)

TLS_NAMES = tuple(f"tls_{name}" for name in _TLS_HELP)
_SHARED = ("endpoints", "write_out", "hex", "command_timeout", "dial_timeout", *TLS_NAMES)


def global_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def environment(name: str) -> str:
    """A variable of ours, or etcdctl's of the same name; empty if there is none."""
    return os.environ.get(f"CHAINFIRE_{name}") or os.environ.get(f"ETCDCTL_{name}") or ""


class Options:
    """The shared options of a command, those behind it before those in front of it."""

    def __init__(self, ctx: click.Context, own: dict[str, Any]) -> None:
        before: dict[str, Any] = ctx.obj or {}
        self._values = {
            name: own[name] if own.get(name) is not None else before.get(name) for name in _SHARED
        }

    @property
    def endpoints(self) -> str:
        return self._values["endpoints"] or environment("ENDPOINTS") or DEFAULT_ENDPOINT

    def write_out(self, *allowed: str, default: str = "simple") -> str:
        chosen: str = self._values["write_out"] or default
        if chosen not in allowed:
            raise click.UsageError(f"-w {chosen} does not fit here; use {' or '.join(allowed)}")
        return chosen

    @property
    def hex(self) -> bool:
        return bool(self._values["hex"])

    def client(self) -> SyncClient:
        """To be used with `with`."""
        from chainfire.client.sync import connect_sync

        return connect_sync(
            self.endpoints,
            timeout=self._values["command_timeout"] or 5.0,
            dial_timeout=self._values["dial_timeout"] or 2.0,
            tls=self.tls(),
        )

    def targets(self, client: SyncClient, *, cluster: bool) -> tuple[str, ...]:
        """The endpoints given, or with `cluster` those of all members."""
        from chainfire.client.calls import member_list_call

        if not cluster:
            return client.endpoints
        members = client.call(member_list_call()).members
        return tuple(dict.fromkeys(url for member in members for url in member.clientURLs))

    def ask_each(
        self, call: Call[R], what: str, *, cluster: bool
    ) -> tuple[list[tuple[str, R]], int]:
        """What each target answers, and the exit code: 1 if one does not, which is printed."""
        replies: list[tuple[str, R]] = []
        code = 0
        with self.client() as client:
            for endpoint in self.targets(client, cluster=cluster):
                try:
                    replies.append((endpoint, client.call_at(endpoint, call)))
                except ChainfireError as exc:
                    text = explain(exc).text
                    click.echo(f"Failed to get {what} of endpoint {endpoint} ({text})", err=True)
                    code = 1
        return replies, code

    def tls(self) -> Tls | None:
        """What the files say; None: none is given. Raises InvalidArgument."""
        from chainfire.client.tls import Tls

        files = {
            name: self._values[f"tls_{name}"] or environment(name.upper()) for name in _TLS_HELP
        }
        if not any(files.values()):
            return None
        return Tls.of_files(files["cacert"], files["cert"], files["key"])


whole_cluster = click.option(
    "--cluster", is_flag=True, help="All members' endpoints, as the member list has them."
)


def client_command(
    name: str, *, epilog: str, cls: type[click.Command] = click.Command
) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command whose function is called with (Options, **its own parameters)."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.pass_context
        def run(ctx: click.Context, /, **parameters: Any) -> Any:
            shared = {option: parameters.pop(option) for option in _SHARED}
            return function(Options(ctx, shared), **parameters)

        run.__doc__ = function.__doc__
        run.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        return click.command(
            name, cls, epilog=epilog, context_settings={"help_option_names": ["-h", "--help"]}
        )(global_options(run))

    return decorate
