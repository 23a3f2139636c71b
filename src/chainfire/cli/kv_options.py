"""The options of get, put and del, and the requests that they ask for.

The same parsers read the lines of a transaction, so that a line there means
what it means on the command line. Names and meanings are etcdctl's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from chainfire.client.keys import from_key_range, prefix_range
from chainfire.proto import kv_pb2

F = TypeVar("F", bound=Callable[..., Any])

_ORDERS = {"": "NONE", "ASCEND": "ASCEND", "DESCEND": "DESCEND"}
_TARGETS = {
    "": "KEY",
    "CREATE": "CREATE",
    "KEY": "KEY",
    "MODIFY": "MOD",
    "VALUE": "VALUE",
    "VERSION": "VERSION",
}
_CONSISTENCY = {
    "l": kv_pb2.LINEARIZABLE,
    "s": kv_pb2.SERIALIZABLE,
    "local": kv_pb2.LOCAL,
}


INT64_MAX = 2**63 - 1


def number(least: int) -> Callable[[Any], int]:
    """A type of option: a whole number as the API's messages hold them, from `least` on."""

    def number(given: Any) -> int:
        try:
            value = int(given)
        except ValueError:
            value = least - 1
        if not least <= value <= INT64_MAX:
            wanted = f"a whole number from {least} to {INT64_MAX}"
            raise click.BadParameter(f"{given!r} is not {wanted}")
        return value

    return number


def options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def flag(name: str, help: str) -> Callable[[Any], Any]:
    return click.option(name, is_flag=True, help=help)


def revision(name: str, help: str) -> Callable[[Any], Any]:
    return click.option(name, type=number(0), default=0, metavar="REVISION", help=help)


key = click.argument("key")
range_end = click.argument("range_end", required=False)
get_options = options(
    key,
    range_end,
    flag("--prefix", "All keys that start with KEY."),
    flag("--from-key", "All keys from KEY on."),
    revision("--rev", "As it was at this revision."),
    click.option("--limit", type=number(0), default=0, help="At most so many keys."),
    click.option("--order", type=click.Choice(list(_ORDERS)), default="", metavar="ASCEND|DESCEND"),
    click.option(
        "--sort-by",
        type=click.Choice(list(_TARGETS)),
        default="",
        metavar="|".join(filter(None, _TARGETS)),
    ),
    flag("--keys-only", "Leave the values out."),
    flag("--count-only", "Only count the keys."),
    click.option(
        "--consistency",
        type=click.Choice(list(_CONSISTENCY)),
        default="l",
        show_default=True,
        help="l: linearizable; s: what this member knows to be committed; local: as it is here.",
    ),
    revision("--min-mod-rev", "Only keys modified at this revision or later."),
    revision("--max-mod-rev", "Only keys modified at this revision or earlier."),
    revision("--min-create-rev", "Only keys created at this revision or later."),
    revision("--max-create-rev", "Only keys created at this revision or earlier."),
)
put_options = options(
    key,
    click.argument("value", required=False),
    click.option("--lease", default="0", metavar="ID", help="Attach this lease (in hex)."),
    flag("--prev-kv", "Print what was there before."),
    flag("--ignore-value", "Keep the current value."),
    flag("--ignore-lease", "Keep the current lease."),
)
delete_options = options(
    key,
    range_end,
    flag("--prefix", "All keys that start with KEY."),
    flag("--from-key", "All keys from KEY on."),
    flag("--prev-kv", "Print what was deleted."),
    click.option("--range", "_range", is_flag=True, hidden=True),  # 3.6 wants it for two keys
)
watch_options = options(
    click.argument("key", required=False, metavar="KEY"),
    click.argument("range_end", required=False, metavar="[RANGE_END] [-- COMMAND…]"),
    flag("--prefix", "All keys that start with KEY."),
    flag("--from-key", "All keys from KEY on."),
    revision("--rev", "Begin with what happened at this revision."),
    flag("--prev-kv", "Print what was there before, too."),
    flag("--progress-notify", "Print how far it has seen, when nothing happens for long."),
)


def _key_range(
    key: str, range_end: str | None, *, prefix: bool, from_key: bool
) -> tuple[bytes, bytes]:
    if prefix and from_key:
        raise click.UsageError("--prefix and --from-key cannot be set at the same time")
    if range_end is not None and (prefix or from_key):
        raise click.UsageError("a range end does not fit --prefix or --from-key")
    if prefix:
        return prefix_range(to_bytes(key))
    if from_key:
        return from_key_range(to_bytes(key))
    return to_bytes(key), to_bytes(range_end or "")


def get_request(
    key: str,
    range_end: str | None,
    prefix: bool,
    from_key: bool,
    rev: int,
    limit: int,
    order: str,
    sort_by: str,
    keys_only: bool,
    count_only: bool,
    consistency: str,
    min_mod_rev: int,
    max_mod_rev: int,
    min_create_rev: int,
    max_create_rev: int,
) -> kv_pb2.RangeRequest:
    first, end = _key_range(key, range_end, prefix=prefix, from_key=from_key)
    if order == "ASCEND" and _TARGETS[sort_by] == "KEY":
        order = ""  # keys come in this order anyway
    return kv_pb2.RangeRequest(
        key=first,
        range_end=end,
        limit=limit,
        revision=rev,
        sort_order=_ORDERS[order],
        sort_target=_TARGETS[sort_by],
        serializable=consistency == "s",
        consistency=_CONSISTENCY[consistency],
        keys_only=keys_only,
        count_only=count_only,
        min_mod_revision=min_mod_rev,
        max_mod_revision=max_mod_rev,
        min_create_revision=min_create_rev,
        max_create_revision=max_create_rev,
    )


def put_request(
    key: str, value: str | None, lease: str, prev_kv: bool, ignore_value: bool, ignore_lease: bool
) -> kv_pb2.PutRequest:
    """A missing value is read from standard input."""
    if ignore_value and value is not None:
        raise click.UsageError("a value and --ignore-value cannot be given together")
    try:
        lease_id = int(lease, 16)
    except ValueError:
        raise click.UsageError(f"--lease {lease}: not a lease id in hex") from None
    if not 0 <= lease_id < 2**63:
        raise click.UsageError(f"--lease {lease}: not a lease id")
    data = b""
    if not ignore_value:
        data = sys.stdin.buffer.read() if value is None else to_bytes(value)
    return kv_pb2.PutRequest(
        key=to_bytes(key),
        value=data,
        lease=lease_id,
        prev_kv=prev_kv,
        ignore_value=ignore_value,
        ignore_lease=ignore_lease,
    )


def delete_request(
    key: str, range_end: str | None, prefix: bool, from_key: bool, prev_kv: bool, _range: bool
) -> kv_pb2.DeleteRangeRequest:
    first, end = _key_range(key, range_end, prefix=prefix, from_key=from_key)
    return kv_pb2.DeleteRangeRequest(key=first, range_end=end, prev_kv=prev_kv)


def watch_range(
    key: str, range_end: str | None, prefix: bool, from_key: bool
) -> tuple[bytes, bytes]:
    return _key_range(key, range_end, prefix=prefix, from_key=from_key)


def to_bytes(argument: str) -> bytes:
    """The bytes that were typed, valid UTF-8 or not."""
    return os.fsencode(argument)
