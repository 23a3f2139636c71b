"""Log lines: one per record, on stderr, as JSON (etcd's field names) or for eyes.

Code logs through `logging.getLogger(__name__)`, with the same verb each time
and its facts as fields: `log.info("applied snapshot", extra={"index": 7})`.
Only a program calls `setup`; the library never touches the logging tree.
Only `chainfire.*` follows the level; other libraries speak up from warnings on.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final, TextIO

LEVELS: Final = {  # etcd's names
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_NAMES: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}
_ROOT: Final = "chainfire"
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def setup(level: str, format: str, stream: TextIO | None = None) -> None:
    """Send every record to stderr (or `stream`). A second call replaces the first."""
    # Facts that no line shows are not collected: a record costs a third less.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Takes effect at once, while the program runs. Raises KeyError on an unknown name."""
    logging.getLogger(_ROOT).setLevel(LEVELS[level])


def level() -> str:
    return _NAMES[logging.getLogger(_ROOT).getEffectiveLevel()]


class JsonFormatter(logging.Formatter):
    """{"level":"info","ts":"2026-01-02T03:04:05.678Z","logger":"raft","msg":"…",fields…}"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "ts": timestamp(record.created),
            "logger": record.name.removeprefix(f"{_ROOT}."),
            "msg": record.getMessage(),
        }
        line |= _fields(record)
        if record.exc_info:
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=_text, separators=(",", ":"))


class ConsoleFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z  INFO  raft  became leader  term=2`"""

    def format(self, record: logging.LogRecord) -> str:
        name = _NAMES.get(record.levelno, record.levelname).upper()
        parts = [
            timestamp(record.created),
            f"{name:<5}",
            record.name.removeprefix(f"{_ROOT}."),
            record.getMessage(),
        ]
        parts += [f"{key}={_quoted(value)}" for key, value in _fields(record).items()]
        if record.exc_info:
            parts.append(f"stacktrace={_quoted(self.formatException(record.exc_info))}")
        return "  ".join(parts).replace("\r", "\\r").replace("\n", "\\n")


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _quoted(value: object) -> str:
    text = _text(value)
    plain = text and not any(c in text for c in ' "=\n\r')
    return text if plain else json.dumps(text, ensure_ascii=False)
