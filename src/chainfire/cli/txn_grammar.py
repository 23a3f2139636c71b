"""The text of a transaction, as etcdctl reads it: three blocks, separated by empty lines.

    mod("key1") > "0"        comparisons, all must hold

    put key1 "new value"     then these: lines of get, put, del

    get key1                 otherwise these

Targets: c/create, m/mod, ver/version, val/value, lease (hex). The end of the
text ends any block. Pure; raises BadLine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import click

from chainfire.cli import kv_options
from chainfire.cli.go_text import split_words, unquote
from chainfire.proto import kv_pb2


class BadLine(click.ClickException):
    """A line that is no comparison or no command."""

    exit_code = 3  # etcdctl's "invalid input"


_COMPARE = re.compile(
    r"""\s*(\w+)\s*\(\s*("(?:[^"\\]|\\.)*"|[^")\s]+)\s*\)\s*(!=|=|<|>)\s*("(?:[^"\\]|\\.)*"|\S+)\s*"""
)
_TARGETS = {
    "c": "CREATE",
    "create": "CREATE",
    "m": "MOD",
    "mod": "MOD",
    "ver": "VERSION",
    "version": "VERSION",
    "val": "VALUE",
    "value": "VALUE",
    "lease": "LEASE",
}
_RESULTS = {"=": "EQUAL", "!=": "NOT_EQUAL", "<": "LESS", ">": "GREATER"}
_OPERAND = {"CREATE": "create_revision", "MOD": "mod_revision", "VERSION": "version"}


def parse_txn(lines: Iterable[str]) -> kv_pb2.TxnRequest:
    rest = iter(lines)
    return kv_pb2.TxnRequest(
        compare=[parse_compare(line) for line in _block(rest)],
        success=[parse_operation(line) for line in _block(rest)],
        failure=[parse_operation(line) for line in _block(rest)],
    )


def _block(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.strip():
            return
        yield line.strip()


def parse_compare(line: str) -> kv_pb2.Compare:
    match = _COMPARE.fullmatch(line)
    if match is None:
        raise BadLine(f'malformed comparison: {line} (one is written as mod("key") > "0")')
    name, key, result, operand = match.groups()
    target = _TARGETS.get(name)
    if target is None:
        raise BadLine(f"malformed comparison: {line} (unknown target {name})")
    compare = kv_pb2.Compare(
        result=_RESULTS[result],
        target=target,
        key=_unquote(key, line),
    )
    value = _unquote(operand, line)
    if target == "VALUE":
        compare.value = value
    else:
        number = _number(value, line, base=16 if target == "LEASE" else 10)
        setattr(compare, _OPERAND.get(target, "lease"), number)
    return compare


def _unquote(word: str, line: str) -> bytes:
    try:
        return unquote(word)
    except ValueError as exc:
        raise BadLine(f"{line}: {exc}") from exc


def _number(value: bytes, line: str, *, base: int) -> int:
    try:
        number = int(value.decode("ascii"), base)
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise BadLine(f"invalid txn compare request: {line} (not a number)")
    return number


def parse_operation(line: str) -> kv_pb2.RequestOp:
    try:
        words = [os.fsdecode(word) for word in split_words(line)]
    except ValueError as exc:
        raise BadLine(f"{line}: {exc}") from exc
    name, arguments = words[0] if words else "", words[1:]
    try:
        match name:
            case "get":
                parameters = _parsed(_GET, arguments)
                return kv_pb2.RequestOp(request_range=kv_options.get_request(**parameters))
            case "put":
                parameters = _parsed(_PUT, arguments)
                if parameters["value"] is None and not parameters["ignore_value"]:
                    raise BadLine(f"invalid txn request: {line} (the value is missing)")
                return kv_pb2.RequestOp(request_put=kv_options.put_request(**parameters))
            case "del":
                parameters = _parsed(_DEL, arguments)
                delete = kv_options.delete_request(**parameters)
                return kv_pb2.RequestOp(request_delete_range=delete)
            case _:
                raise BadLine(f"invalid txn request: {line} (it begins with get, put or del)")
    except click.UsageError as exc:
        raise BadLine(f"invalid txn request: {line} ({exc.format_message()})") from exc


def _parsed(command: click.Command, arguments: list[str]) -> dict[str, Any]:
    return command.make_context(command.name, arguments).params


def _parser(name: str, options: object) -> click.Command:
    def nothing(**_: object) -> None:
        """Only its parameters are of use."""

    assert callable(options)
    return click.command(name, add_help_option=False)(options(nothing))


_GET = _parser("get", kv_options.get_options)
_PUT = _parser("put", kv_options.put_options)
_DEL = _parser("del", kv_options.delete_options)
