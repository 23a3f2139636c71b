"""Log lines: one per record, in both formats, at a level that can change while running."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from chainfire import logs

log = logging.getLogger("chainfire.raft.core")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("chainfire")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    facts = (logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = facts


def test_json_has_etcds_names_and_the_fields(stream: io.StringIO) -> None:
    logs.setup("info", "json", stream)
    log.info("became leader", extra={"term": 2, "key": b"a\xff", "peers": [1, 2]})
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "raft.core",
        "msg": "became leader",
        "term": 2,
        "key": "a\\xff",
        "peers": [1, 2],
    }


def test_console_is_for_eyes(stream: io.StringIO) -> None:
    logs.setup("info", "console", stream)
    log.warning("lost\nleader", extra={"why": "no heartbeat", "term": 2})
    assert stream.getvalue().endswith(
        '  WARN   raft.core  lost\\nleader  why="no heartbeat"  term=2\n'
    )


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_exception_stays_on_its_line(stream: io.StringIO, format: str) -> None:
    logs.setup("info", format, stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in stream.getvalue()


def test_the_level_changes_while_running_and_only_for_us(stream: io.StringIO) -> None:
    logs.setup("info", "json", stream)
    log.debug("silent")
    logging.getLogger("other").info("silent")
    logs.set_level("debug")
    assert logs.level() == "debug"
    log.debug("heard")
    logging.getLogger("other").warning("heard")
    assert [json.loads(line)["msg"] for line in stream.getvalue().splitlines()] == ["heard"] * 2


def test_setting_up_twice_writes_once(stream: io.StringIO) -> None:
    logs.setup("info", "json", io.StringIO())
    logs.setup("info", "console", stream)
    log.info("once")
    assert stream.getvalue().count("once") == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "1970-01-01T00:00:00.000Z"), (1.9996, "1970-01-01T00:00:01.999Z")],
)
def test_timestamps_are_utc_with_milliseconds(seconds: float, expected: str) -> None:
    assert logs.timestamp(seconds) == expected
