"""The kinds of values: how each is read from a flag's text and from a TOML value.

A kind raises BadValue that says what is allowed; who calls adds the key.
Durations are kept in whole milliseconds, sizes in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chainfire.config.urls import BadValue, Url, parse_urls

INT_MAX = 2**63 - 1
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6}
_NS |= {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SIZE = re.compile(r"(-?\d+)\s*([KMGT]i?B?|B)?", re.IGNORECASE | re.ASCII)
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}  # strconv.ParseBool
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


@dataclass(frozen=True, slots=True)
class Kind:
    """`parse` reads text (flag, environment), `read` a TOML value, `show` writes TOML."""

    name: str  # in help texts: what stands behind the flag
    parse: Callable[[str], Any]
    read: Callable[[object], Any]
    show: Callable[[Any], str]


def _quote(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text) + '"'


def _only_text(parse: Callable[[str], Any]) -> Callable[[object], Any]:
    def read(value: object) -> Any:
        if not isinstance(value, str):
            raise BadValue("a string is expected")
        return parse(value)

    return read


def _identity(text: str) -> str:
    if "\0" in text:
        raise BadValue("must not contain a NUL character")
    return text


TEXT = Kind("text", _identity, _only_text(_identity), _quote)


def choice(*allowed: str) -> Kind:
    def parse(text: str) -> str:
        if text not in allowed:
            raise BadValue(f"must be one of {', '.join(allowed)}")
        return text

    return Kind("|".join(allowed), parse, _only_text(parse), _quote)


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadValue("must be true or false")


def _read_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadValue("must be true or false (without quotes)")
    return value


BOOL = Kind("true|false", parse_bool, _read_bool, lambda value: str(value).lower())


def _bounded(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise BadValue(f"must be a whole number from {low} to {high}")
    return value


def integer(low: int, high: int = INT_MAX) -> Kind:
    def parse(text: str) -> int:
        try:
            return _bounded(int(text, 0), low, high)
        except ValueError:
            raise BadValue(f"must be a whole number from {low} to {high}") from None

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue(f"must be a whole number from {low} to {high}")
        return _bounded(value, low, high)

    return Kind("number", parse, read, str)


def size(low: int) -> Kind:
    """Bytes; text may carry KiB, MiB, GiB, TiB (1024) or KB, MB, GB, TB (1000)."""

    def parse(text: str) -> int:
        match = _SIZE.fullmatch(text.strip())
        if match is None or len(match[1]) > 20:
            raise BadValue('must be a number of bytes, as 2147483648 or "2GiB"')
        unit = (match[2] or "B").upper()
        base = 1024 if "I" in unit else 1000
        return _bounded(int(match[1]) * base ** ("BKMGT".index(unit[0])), low, INT_MAX)

    def read(value: object) -> int:
        return parse(value) if isinstance(value, str) else integer(low).read(value)

    return Kind("bytes", parse, read, str)


def parse_duration_ns(text: str) -> int:
    """Go's time.ParseDuration: `5s`, `1h30m`, `1.5s`, `100ms`, `0`; never negative here."""
    rest = text.strip()
    if rest in ("0", "+0"):
        return 0
    total, position = 0.0, 0
    for match in _DURATION_PART.finditer(rest):
        if match.start() != position:
            break
        position = match.end()
        total += float(match[1]) * _NS[match[2]]
    if not rest or position != len(rest) or total > INT_MAX:
        raise BadValue('must be a duration, as "100ms", "5s" or "1h30m"')
    return int(total)


def ms_of_ns(nanoseconds: int) -> int:
    """Rounded up, so that a tiny duration does not become "off"."""
    return -(-nanoseconds // 10**6)


def duration(low_ms: int, *, bare_ms: bool = False) -> Kind:
    """Milliseconds. `bare_ms`: a flag's plain number is in ms (etcd's two Raft timers)."""

    def parse(text: str) -> int:
        if bare_ms and text.strip().isdecimal() and len(text) < 20:
            return _bounded_ms(int(text))
        return _bounded_ms(ms_of_ns(parse_duration_ns(text)))

    def read(value: object) -> int:
        if isinstance(value, str):
            return _bounded_ms(ms_of_ns(parse_duration_ns(value)))
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue('must be whole milliseconds, or a duration as "5s"')
        return _bounded_ms(value)

    def _bounded_ms(value: int) -> int:
        if not low_ms <= value <= INT_MAX // 10**6:
            raise BadValue(f"must be at least {low_ms} ms")
        return value

    return Kind("ms" if bare_ms else "duration", parse, read, str)


def _parse_words(text: str) -> tuple[str, ...]:
    _identity(text)
    return tuple(dict.fromkeys(word for word in map(str.strip, text.split(",")) if word))


def _read_words(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _parse_words(",".join(value))
    return _only_text(_parse_words)(value)  # type: ignore[no-any-return]


WORDS = Kind(
    "a,b,…", _parse_words, _read_words, lambda words: "[" + ", ".join(map(_quote, words)) + "]"
)


def _read_urls(value: object) -> tuple[Url, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(dict.fromkeys(url for item in value for url in parse_urls(item)))
    if isinstance(value, str):
        return parse_urls(value)
    raise BadValue("must be a list of URLs")


def _show_urls(urls: tuple[Url, ...]) -> str:
    return "[" + ", ".join(_quote(url) for url in urls) + "]"


URLS = Kind("urls", parse_urls, _read_urls, _show_urls)

Members = tuple[tuple[str, tuple[Url, ...]], ...]


def parse_members(text: str) -> Members:
    """`n1=url,n1=url2,n2=url`: every member's peer URLs, members in order of appearance."""
    members: dict[str, list[Url]] = {}
    for part in text.split(",") if text.strip() else []:
        name, equals, url = part.strip().partition("=")
        if not equals or not name or not url:
            raise BadValue(f"must be a list of name=url, found {part!r}")
        members.setdefault(name, []).extend(parse_urls(url))
    return tuple((name, tuple(dict.fromkeys(urls))) for name, urls in members.items())


def show_members(members: Members) -> str:
    return ",".join(f"{name}={url}" for name, urls in members for url in urls)


MEMBERS = Kind(
    "name=url,…", parse_members, _only_text(parse_members), lambda m: _quote(show_members(m))
)
