"""Go's quoted strings (strconv), as etcdctl's formats and its transactions use them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NAMED = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_NAMES = {code: name for name, code in _NAMED.items() if name != "'"}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))",
    re.DOTALL,
)
WORD = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*""")


def quote(data: bytes) -> str:
    """%q: a double-quoted string with everything unprintable escaped."""
    return '"' + "".join(_quoted(data.decode("utf-8", "surrogateescape"))) + '"'


def _quoted(text: str) -> Iterator[str]:
    for character in text:
        code = ord(character)
        if code in _NAMES:
            yield f"\\{_NAMES[code]}"
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
            yield f"\\x{code - 0xDC00:02x}"
        elif character.isprintable():
            yield character
        elif code < 0x80:
            yield f"\\x{code:02x}"
        else:
            yield f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(text: str) -> bytes:
    """The bytes of a double-quoted, single-quoted (taken as it is) or bare word.

    Raises ValueError on an escape that Go does not know.
    """
    if text[:1] == "'":
        return _encode(text[1:-1])
    if text[:1] != '"':
        return _encode(text)
    if len(text) < 2 or text[-1] != '"':
        raise ValueError(f"the quotation mark is not closed: {text}")
    out, position, inner = bytearray(), 0, text[1:-1]
    for match in _ESCAPE.finditer(inner):
        out += _encode(inner[position : match.start()]) + _unescaped(match)
        position = match.end()
    return bytes(out + _encode(inner[position:]))


def _unescaped(match: re.Match[str]) -> bytes:
    named, byte, short, long, octal, _ = match.groups()
    if named:
        return bytes([_NAMED[named]])
    if byte or octal:
        value = int(byte, 16) if byte else int(octal, 8)
        if value < 256:
            return bytes([value])
    elif short or long:
        code = int(short or long, 16)
        if code < 0x110000 and not 0xD800 <= code < 0xE000:
            return chr(code).encode()
    raise ValueError(f"unknown escape {match.group()}")


def split_words(line: str) -> list[bytes]:
    """A command line split as etcdctl splits it: words, "double" and 'single' quoted strings."""
    return [unquote(word) for word in WORD.findall(line)]


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
