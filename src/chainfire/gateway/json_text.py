"""JSON texts: the first value of one, in Go's words where it is none, and values one after another.

Go's parser is stricter than Python's in some places (NaN, control characters)
and takes invalid UTF-8 as U+FFFD; so does this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

TOO_DEEP: Final = "exceeded max depth"
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class _Number(float):
    """A float that shows the digits it was written with."""

    __slots__ = ("text",)
    text: str

    def __str__(self) -> str:
        return self.text


def _float(text: str) -> Any:
    number = float(text)
    if number.is_integer() and abs(number) < 2**53:
        return int(number)
    shown = _Number(number)
    shown.text = text
    return shown


class _NotGo(Exception):
    """Python's parser takes it and Go's does not."""


def _constant(text: str) -> Any:
    raise _NotGo(f"invalid character {go_char(text[0])} looking for beginning of value")


_DECODER: Final = json.JSONDecoder(parse_float=_float, parse_constant=_constant)


def text_of(body: bytes) -> str:
    """Never fails; what is no UTF-8 becomes U+FFFD, as in Go."""
    return body.decode("utf-8", "replace")


def parse(text: str) -> tuple[Any, int]:
    """The first value, and where it ends; of nothing but blanks, (None, …).

    Raises ValueError with Go's words.
    """
    match = _SPACE.match(text)
    begin = match.end() if match else 0
    if begin == len(text):
        return None, begin
    try:
        return _DECODER.raw_decode(text, begin)
    except json.JSONDecodeError as exc:
        raise ValueError(_in_go_words(text, exc)) from exc
    except _NotGo as exc:
        raise ValueError(str(exc)) from exc
    except RecursionError as exc:
        raise ValueError(TOO_DEEP) from exc
    except ValueError as exc:  # an integer of more digits than Python converts
        raise ValueError("json: cannot unmarshal number into Go value of type int64") from exc


class Splitter:
    """Cuts a stream of JSON values into values, in whatever pieces it comes.

    Only brackets and strings are looked at: what is malformed is found when a value is parsed.
    """

    def __init__(self) -> None:
        self.waiting_bytes = 0  # of the value that is not complete yet
        self._pieces: list[bytes] = []
        self._depth = 0
        self._in_string = False
        self._skip = 0  # bytes of the next piece that a backslash has taken

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The values that end in this piece."""
        begin, self._skip, search = 0, 0, self._skip
        for match in _STRUCTURE.finditer(piece, search):
            found = match[0]
            if found[0] == _BACKSLASH:
                self._skip = 2 - len(found)
            elif found == b'"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if found in b"{[" else -1
                if self._depth <= 0:
                    yield b"".join((*self._pieces, piece[begin : match.end()]))
                    begin, self._depth = match.end(), 0
                    self._pieces.clear()
                    self.waiting_bytes = 0
        self._pieces.append(piece[begin:])
        self.waiting_bytes += len(piece) - begin

    def rest(self) -> bytes:
        """What no bracket has closed; blank where the stream ended well."""
        return b"".join(self._pieces).strip()


_STRUCTURE: Final = re.compile(rb'\\(?:.|$)|["{}\[\]]', re.DOTALL)
_BACKSLASH: Final = 0x5C


# ── Go's words ──────────────────────────────────────────────────────────────

_WANTS_NAME: Final = "looking for beginning of object key string"
_IN_GO: Final = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": _WANTS_NAME,
    "Illegal trailing comma before end of object": _WANTS_NAME,
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


_ESCAPED: Final = re.compile(r"\\(?:u[0-9a-fA-F]*)?")


def _in_go_words(text: str, exc: json.JSONDecodeError) -> str:
    if exc.pos >= len(text) or exc.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    where = _IN_GO.get(exc.msg)
    if where is None:  # a comma is missing, in an object or an array
        opened = [match[0] for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', text[: exc.pos])]
        depth, kind = 0, "{"
        for bracket in reversed(opened):
            depth += {"}": 1, "]": 1, "{": -1, "[": -1}.get(bracket, 0)
            if depth < 0:
                kind = bracket
                break
        where = "after object key:value pair" if kind == "{" else "after array element"
    at = exc.pos
    for literal in ("true", "false", "null"):
        if text[at] == literal[0] and exc.msg == "Expecting value":
            size = next(i for i in range(len(literal)) if text[at : at + i + 1] != literal[: i + 1])
            at, where = at + size, f"in literal {literal} (expecting '{literal[size]}')"
            break
    if exc.msg.startswith("Invalid \\"):
        escaped = _ESCAPED.match(text, text.rindex("\\", 0, at + 1))
        at = escaped.end() if escaped else at
    if at >= len(text):
        return "unexpected EOF"
    return f"invalid character {go_char(text[at])} {where}"


_GO_LETTERS: Final = dict(zip("\a\b\f\n\r\t\v", "abfnrtv", strict=True))


def go_char(char: str) -> str:
    """A character as Go's error texts quote it: beyond ASCII, the first byte of its UTF-8."""
    byte = char.encode("utf-8", "surrogatepass")[0]
    if char in "'\\":
        return f"'\\{char}'"
    if char in _GO_LETTERS:
        return f"'\\{_GO_LETTERS[char]}'"
    if byte < 0x20 or 0x7F <= byte < 0xA0:
        return f"'\\x{byte:02x}'" if byte < 0x80 else f"'\\u{byte:04x}'"
    return f"'{chr(byte)}'"
