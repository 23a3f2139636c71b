"""Who may talk to whom: what members say before anything else, and the rules by which it is judged.

Pure. Bytes: docs/formats.md, "Between members". Both sides judge the other by
the same rules; the one who was dialled answers first.

Peers remember, durably, under which incarnation (one per data
directory) and start number they met an id. So a member whose disk was lost,
or replaced by an older copy, finds out here and not by damage:

    another incarnation            its data is gone: it must come back under a new id
    a smaller start number, or     an older copy of its disk; or, while the life that was met
    the same one in another life   still speaks, two processes on copies of it
    a later start number           a restart: the life before it has ended;
    with a log that ends before    or an older copy, made in the very life that ran last
    what it is known to have applied

Peers know the last from what it told them (`reports`), in memory, as long as they
run: a member applies what its own disk holds durably, so its log never ends
before that again. Nobody can tell of what it told nobody, or of what all who
heard it have forgotten with their processes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from chainfire.node.frames import BadFrame

HELLO: Final = 64
WELCOME: Final = 65
DENIED: Final = 66
PING: Final = 67
PONG: Final = 68

MAGIC: Final = 0x43465031  # "CFP1"
FORMAT_OLDEST: Final = 1  # of those that this version speaks
FORMAT_NEWEST: Final = 1
HELLO_BYTES_MAX: Final = 4096  # also of a Denied

_HELLO = struct.Struct(">BIBBBB7Q")
_LOST_DATA = 1
_PING = struct.Struct(">BQ")
_START_NUMBER = struct.Struct(">Q")


class Channel(IntEnum):
    """What a connection is for. The numbers travel."""

    URGENT = 1  # elections, heartbeats, read rounds: small, never behind anything else
    BULK = 2  # appends, their replies, forwarded commands
    SNAPSHOT = 3  # one snapshot


class Reason(IntEnum):
    """Why a member is not spoken with. The numbers travel."""

    FORMAT = 1
    CLUSTER = 2
    ADDRESSEE = 3
    OWN_ID = 4
    STRANGER = 5  # or who was added, or removed, a moment ago: it asks again
    REMOVED = 6
    OTHER_INCARNATION = 7
    OLD_START = 8  # another process runs on a newer copy of its disk
    BUSY = 9
    OLDER_COPY = 10


# The member that hears one of these about itself cannot go on: waiting does not mend it.
FATAL_REASONS: Final = frozenset(
    {Reason.REMOVED, Reason.OTHER_INCARNATION, Reason.OLD_START, Reason.OLDER_COPY}
)


@dataclass(slots=True, frozen=True, kw_only=True)
class Hello:
    """The facts of the member that says it."""

    cluster_id: int
    sender: int
    to: int  # whom it wants to reach
    incarnation: int
    start_number: int
    life: int  # random, per process: tells a reconnect from a second start with the same number
    lost_data: bool  # it has lost what it had acknowledged: a leader resets its progress
    log_end: int  # index up to which its log held entries when this life began, or had caught up
    version: str
    channel: Channel = Channel.URGENT
    format_oldest: int = FORMAT_OLDEST
    format_newest: int = FORMAT_NEWEST


@dataclass(slots=True, frozen=True)
class Denial:
    reason: Reason
    text: str  # what is wrong and what to do, for the log of both sides
    start_number: int = 0  # OLDER_COPY: the one that was met


@dataclass(slots=True, frozen=True)
class Met:
    """Under what an id was met last; kept durably by who met it."""

    incarnation: int
    start_number: int
    life: int


def judge(
    mine: Hello,
    theirs: Hello,
    *,
    is_member: bool,
    was_removed: bool,
    is_led: bool,
    met: Met | None,
    met_speaks: bool,
    applied: int,
) -> Denial | None:
    """None: they may talk to us. `met` is what we remember of their id.

    `mine.to` is whom we dialled, 0 when they dialled us. `met_speaks`: the life that was met
    has a connection to us on which it was heard a moment ago. `is_led`: we hear a leader, so that
    who was removed is not needed to elect one (`removal`). `applied`: the highest index that
    they are known to have applied.
    """
    return (
        _other_cluster(mine, theirs)
        or _other_member(mine, theirs, is_member=is_member, was_removed=was_removed, is_led=is_led)
        or _other_disk(theirs, met, met_speaks=met_speaks, applied=applied)
    )


def is_news(theirs: Hello, met: Met | None) -> bool:
    """Whether it must be stored, durably, before a Welcome: what `met_of` gives."""
    return met != met_of(theirs)


def met_of(hello: Hello) -> Met:
    return Met(hello.incarnation, hello.start_number, hello.life)


def _other_cluster(mine: Hello, theirs: Hello) -> Denial | None:
    if theirs.format_newest < FORMAT_OLDEST or theirs.format_oldest > FORMAT_NEWEST:
        return Denial(
            Reason.FORMAT,
            f"member {theirs.sender:x} (version {theirs.version}) speaks peer formats "
            f"{theirs.format_oldest} to {theirs.format_newest}, member {mine.sender:x} (version "
            f"{mine.version}) {FORMAT_OLDEST} to {FORMAT_NEWEST}: upgrade one version at a time",
        )
    if theirs.cluster_id != mine.cluster_id:
        return Denial(
            Reason.CLUSTER,
            f"member {theirs.sender:x} belongs to cluster {theirs.cluster_id:x}, member "
            f"{mine.sender:x} to {mine.cluster_id:x}: check --initial-cluster and "
            "--initial-cluster-token, which must be the same on all members, and the peer URLs. "
            "Who joins a running cluster needs --initial-cluster-state=existing and, if it was "
            "started without, an empty --data-dir",
        )
    return None


def _other_member(
    mine: Hello, theirs: Hello, *, is_member: bool, was_removed: bool, is_led: bool
) -> Denial | None:
    if theirs.to != mine.sender or mine.to not in (0, theirs.sender):
        wanted, there = (theirs.to, mine.sender) if mine.to == 0 else (mine.to, theirs.sender)
        return Denial(
            Reason.ADDRESSEE,
            f"member {wanted:x} was looked for where member {there:x} listens: correct its peer "
            "URLs (member update)",
        )
    if theirs.sender == mine.sender:
        return Denial(
            Reason.OWN_ID,
            f"two processes call themselves member {mine.sender:x}: stop the one that was started "
            "by mistake, or give it its own --name and peer URLs",
        )
    if was_removed and not is_led:
        return Denial(
            Reason.STRANGER,
            f"member {theirs.sender:x} was removed, by what member {mine.sender:x} has applied; "
            "there is no leader now that does without it: it asks again",
        )
    if was_removed:
        return Denial(
            Reason.REMOVED,
            f"member {theirs.sender:x} has been permanently removed from the cluster: stop it; to "
            "bring it back, add it anew (member add) and start it with an empty --data-dir",
        )
    if not is_member:
        return Denial(
            Reason.STRANGER,
            f"member {theirs.sender:x} is not known to member {mine.sender:x}: add it first "
            "(member add); if that was done a moment ago, it is let in by itself",
        )
    return None


def _other_disk(theirs: Hello, met: Met | None, *, met_speaks: bool, applied: int) -> Denial | None:
    if met is None:
        return None
    if theirs.incarnation != met.incarnation:
        return Denial(
            Reason.OTHER_INCARNATION,
            f"member {theirs.sender:x} was met before with another data directory: what it had "
            "acknowledged is lost, and it must not vote under this id again. Remove it and add it "
            f"anew (member remove {theirs.sender:x}; member add NAME --peer-urls=…), then start "
            "it with an empty --data-dir and --initial-cluster-state=existing",
        )
    if theirs.start_number < met.start_number or (
        theirs.start_number == met.start_number and theirs.life != met.life
    ):
        numbers = (
            f"member {theirs.sender:x} comes with start number {theirs.start_number}, number "
            f"{met.start_number} was met"
        )
        if met_speaks:
            return Denial(
                Reason.OLD_START,
                f"{numbers} and still runs: two processes run on copies of one data directory. "
                "Leave the one with the larger number; stop the other",
            )
        return _older_copy(numbers, met)
    if theirs.log_end < applied and theirs.life != met.life and not theirs.lost_data:
        return _older_copy(
            f"member {theirs.sender:x} comes with a log that ends at entry {theirs.log_end}, and "
            f"had applied entry {applied} before",
            met,
        )
    return None


def _older_copy(found: str, met: Met) -> Denial:
    return Denial(
        Reason.OLDER_COPY,
        f"{found}: its data directory is an older copy. Start it with the newest directory; if "
        "that is lost, remove the member and add it anew",
        met.start_number,
    )


# ── bytes ───────────────────────────────────────────────────────────────────


def encode_hello(kind: int, hello: Hello) -> bytes:
    """The body of a HELLO or WELCOME."""
    h = hello
    return (
        _HELLO.pack(
            kind,
            MAGIC,
            h.format_oldest,
            h.format_newest,
            h.channel,
            _LOST_DATA if h.lost_data else 0,
            h.cluster_id,
            h.sender,
            h.to,
            h.incarnation,
            h.start_number,
            h.life,
            h.log_end,
        )
        + h.version.encode()
    )


def decode_hello(kind: int, body: bytes) -> Hello:
    """Raises BadFrame. Flags of later formats are not looked at."""
    try:
        found, magic, oldest, newest, channel, flags, *ids = _HELLO.unpack_from(body)
        if (found, magic) != (kind, MAGIC):
            raise BadFrame("a connection that does not begin with a Chainfire member's hello")
        cluster_id, sender, to, incarnation, start_number, life, log_end = ids
        return Hello(
            cluster_id=cluster_id,
            sender=sender,
            to=to,
            incarnation=incarnation,
            start_number=start_number,
            life=life,
            lost_data=bool(flags & _LOST_DATA),
            log_end=log_end,
            version=body[_HELLO.size :].decode(),
            channel=Channel(channel),
            format_oldest=oldest,
            format_newest=newest,
        )
    except (struct.error, ValueError) as exc:
        raise BadFrame(f"a hello that cannot be read: {exc}") from exc


def encode_denial(denial: Denial) -> bytes:
    head = bytes([DENIED, denial.reason])
    if denial.reason is Reason.OLDER_COPY:
        head += _START_NUMBER.pack(denial.start_number)
    return head + denial.text.encode()


def decode_denial(body: bytes) -> Denial:
    """Raises BadFrame."""
    try:
        reason = Reason(body[1])
        if reason is not Reason.OLDER_COPY:
            return Denial(reason, body[2:].decode())
        (start_number,) = _START_NUMBER.unpack_from(body, 2)
        return Denial(reason, body[2 + _START_NUMBER.size :].decode(), start_number)
    except (IndexError, ValueError, struct.error) as exc:
        raise BadFrame(f"a denial that cannot be read: {exc}") from exc


def encode_ping(kind: int, number: int) -> bytes:
    """The body of a PING or PONG."""
    return _PING.pack(kind, number)


def decode_ping(body: bytes) -> int:
    """Raises BadFrame."""
    try:
        return int(_PING.unpack(body)[1])
    except struct.error as exc:
        raise BadFrame(f"a ping that cannot be read: {exc}") from exc
