"""The border of the native door, as Python sees it. Rules: native/src/border/.

An event is (id, what, body, metadata, amount). `what` is a method's place in
the list that the door was made with, or one of the negative numbers below.
`amount` of a call is its timeout in seconds, or None.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

__version__: str
BORDER_VERSION: int  # chainfire.wheel says which it must be

# What an event may be besides a call.
UNKNOWN_METHOD: int  # a call of a path that is not served; the body is the path
HTTP_REQUEST: int  # not gRPC; metadata: :method, :target, :version, then the headers as bytes
REQUEST_MESSAGE: int  # of a stream, or a piece of an HTTP request's body
HALF_CLOSE: int  # the client sends nothing more
CANCEL: int  # the call is over: reset, past its deadline, or disconnected
WRITABLE: int  # `amount` of a stream's credit is back
OPENED: int  # a connection (id >> 30); body: the peer; metadata: its certificate; amount 1: TLS
CLOSED: int  # a connection
DRAINED: int  # after `stop`: the last connection is gone
PRESSED: int  # a stream has too much of casts under way: send it none before RELIEVED
RELIEVED: int
FAILED: int  # a panic; body: its text; amount 1: the whole door is dead

# What a reply may be besides a status: (id, 0, bytes) answers a unary call,
# (id, code, text or None[, trailers]) ends any call.
MESSAGE: int  # (id, MESSAGE, bytes): of a stream, or a piece of an HTTP answer's body
HEAD: int  # (id, HEAD, (status, headers)): before the first message
CREDIT: int  # (id, CREDIT, count): so much of the requests' credit is back
RESET: int  # (id, RESET, None): break off
# (0, CAST, (targets, body)): one message for many streams, without credit. `targets` is, for each
# of them: id as 8 bytes little-endian, length of the prefix as one byte, prefix. Each is sent its
# prefix and the body, in one message.
CAST: int

# Each direction of a stream may have this under way: bytes + overhead per message.
STREAM_CREDIT_BYTES: int
CREDIT_LUMP_BYTES: int  # given back in lumps of at least this
MESSAGE_OVERHEAD_BYTES: int

Metadata: TypeAlias = list[tuple[str, str | bytes]]
Event: TypeAlias = tuple[int, int, bytes, Metadata | None, float | None]

class Door:
    """A thread that serves; it starts with the object and ends with `close`."""

    def __init__(
        self,
        methods: Sequence[tuple[str, bool]],  # path, and whether requests are a stream
        *,
        connections_max: int = ...,
        streams_max: int = ...,
        message_bytes_max: int = ...,
        header_list_bytes_max: int = ...,
        resets_per_second_max: int = ...,
        direct_answers_max: int = ...,
        http_lines: Sequence[str] = ...,  # ends of HTTP paths: no answer to a half-closed client
        handshake_seconds: float = ...,
        write_seconds: float = ...,
        ping_interval_min_seconds: float = ...,
        keepalive_interval_seconds: float = ...,
        keepalive_timeout_seconds: float = ...,
    ) -> None: ...
    def listen(self, fd: int, is_unix: bool, tls: bool) -> None:
        """Serve on a listening socket. `fd` must be detached: the door closes it."""

    def set_tls(
        self,
        certificate: bytes,
        key: bytes,
        client_ca: bytes | None = None,
        client_required: bool = True,
        *,
        client_crl: bytes | None = None,  # revocation lists, as PEM, or one as DER
        client_names: Sequence[str] = (),  # one of them must be in a client's certificate
        version_min: str | None = None,  # "1.2", "1.3"
        version_max: str | None = None,
        ciphers: Sequence[str] = (),  # IANA's names; none: the defaults
    ) -> None:
        """PEM; from the next connection on. Raises ValueError saying which one is wrong."""

    def fileno(self) -> int:
        """Readable when there are events and the last `drain` said `armed`, or requests that come
        one at a time, which `drain` then reads itself."""

    def drain(self, max: int) -> tuple[list[Event], bool]:
        """(events, armed). Not armed: nothing will wake you, come again."""

    def send(self, replies: list[tuple[Any, ...]]) -> bool:
        """Hand over, at once for few. Replies to calls that are over go nowhere.

        True: calls come one at a time, and the next one so soon that it is worth to `linger`.
        """

    def linger(self) -> bool:
        """Look for the next call for a few dozen microseconds, instead of sleeping until it comes.

        True: `drain` has something. False at once where a call has come since the last answer.
        """

    def stop(self) -> None:
        """Take nothing new; DRAINED comes when the accepted calls have ended."""

    def close(self) -> None:
        """End everything; returns when the thread is gone. Idempotent."""

    def has_room(self, id: int) -> bool:
        """Whether the call's connection, and all together, have little enough unsent for more.

        Where they have not, the connection takes in no calls either.
        """

    def statistics(self) -> dict[str, int]:
        """connections, unsent_bytes, incomplete_bytes; since the start: accepted, refused, rude, wakes, direct, near,
        lingers."""

def self_signed(
    names: Sequence[str], common_name: str, now: int, days: int
) -> tuple[str, str]:
    """(certificate, key) as PEM: a new key, its certificate for these names and addresses.

    `now` is when it begins to be valid, in seconds since 1970. Raises ValueError.
    """

def start_writing(fd: int) -> None:
    """Let the kernel begin to write what is dirty of a file; a sync of it then waits for less.

    Raises nothing: what fails is told to who syncs.
    """

# ── the machine's codec ─────────────────────────────────────────────────────
# Rules: native/src/plain/mod.rs. Kinds are the field numbers of a command's bodies.

def is_plain_txn(request: bytes, operations_max: int) -> bool:
    """Whether a TxnRequest is plain, passes every check that needs no state, and may change
    something; no more compares, and operations in a branch, than that."""

def parse_plain(data: bytes) -> tuple[int, int, int, int, int, int, tuple[bytes, ...]] | None:
    """Of a command that is plain: member id, start number, sequence, lowest unsettled sequence,
    leader's clock, kind and the key_value keys of all keys that it names. None for any other.
    """

def stage_plain(
    data: bytes,
    row_keys: tuple[bytes, ...],  # as parsed
    befores: list[bytes | None],  # their rows, as far as there are any
    index: int,
    term: int,
    revision: int,  # before it
    hash: int,
    families: tuple[dict[bytes, bytes | None], dict[bytes, bytes | None], dict[bytes, bytes | None]],
    changes: list[tuple[str, bytes, bytes | None]] | None,
) -> (
    tuple[
        int,
        int,
        int,
        int,
        int,
        list[tuple[bytes, bytes | None, int]],
        bool,
        list[tuple[int, bool, bytes | bool | None]],
    ]
    | None
):
    """Put what a plain command writes into the `families` key_value, key_history and revisions,
    and append it to `changes`, in the order in which it is digested.

    Returns: revision after it, the hash chain's link behind `hash`, the number of bytes digested,
    by how much the keyspace's live and history bytes grow; of each key that changed its key_value
    key, its row (None: deleted) and by how much the number of keys grows; and of a transaction
    whether its compares hold, and for each operation its kind (0: a range), whether the command
    had changed something by then, and what it found: a KeyValue, or whether it deleted one.
    None, and nothing done: not plain, or a version that would go has a lease.
    """

def stage_puts(
    commands: list[bytes],
    row_keys: list[bytes],  # one each, as parsed
    befores: list[bytes | None],  # their rows before the first of them
    first_index: int,
    term: int,
    revision: int,
    hash: int,
    families: tuple[dict[bytes, bytes | None], dict[bytes, bytes | None], dict[bytes, bytes | None]],
    changes: list[list[tuple[str, bytes, bytes | None]]] | None,  # a list for each command
) -> tuple[int, list[int], int, int, int, list[tuple[bytes, bytes | None, int]]]:
    """As `stage_plain` of one put after the other, up to the first that is not plain.

    Returns: revision after them, the chain's link of each that was staged, and of all of them
    together what `stage_plain` returns behind that, up to the keys that changed.
    """

# ── syncs ───────────────────────────────────────────────────────────────────
# Rules: native/src/sync/mod.rs.

class Syncer:
    """A thread that calls fdatasync and never takes the GIL. Raises OSError if none can be had."""

    def __init__(self) -> None: ...
    def fileno(self) -> int:
        """Readable once the sync that was ordered is over."""

    def start(self, fd: int) -> None:
        """Order a sync; `fd` may be closed at once. Raises OSError while one is under way or its
        outcome has not been taken, and for what is no descriptor."""

    def take(self) -> tuple[int, float] | None:
        """errno (0: durable) and seconds of the sync, once; None: there is no outcome."""

    def close(self) -> None:
        """Returns when the thread is gone, after the sync that is under way. Idempotent."""

# ── the load generator ───────────────────────────────────────────────────────
# Rules: native/src/load/mod.rs.

class LoadTrust:
    """TLS: whose certificates servers must show, and what is shown to them. PEM texts."""

    def __init__(
        self,
        ca: bytes | None = None,  # None: whom the system trusts
        certificate: bytes | None = None,
        key: bytes | None = None,
    ) -> None:
        """Raises ValueError saying which text is wrong."""

class LoadTarget:
    """A server. Its certificate must be for the authority's host."""

    def __init__(
        self,
        address: str,  # "ip:port"
        authority: str,
        trust: LoadTrust | None = None,  # None: plain
    ) -> None:
        """Raises ValueError saying what is wrong."""

    def probe(self, timeout_seconds: float) -> None:
        """Connect, and wait until a server of HTTP/2 greets.

        Raises OSError where nobody is reached; ValueError saying who answers instead, or what is
        wrong with the server's certificate or ours.
        """

class LoadOperation:
    """One kind of unary call, or of message on a stream, as a template. Offsets count in `message`."""

    def __init__(
        self,
        path: str,
        message: bytes,
        *,
        weight: int = 1,  # how often, compared with the other operations
        is_stream: bool = False,  # on a stream of each call in flight, each message answered by one
        keys: Sequence[tuple[int, int]] = (),  # (offset, add): digits of the key's number + add
        groups: int | None = None,  # the key's number goes here as four groups of a longer varint
        noise: tuple[int, int] | None = None,  # begin and end: filled with incompressible bytes
        expects: int = 0,  # field behind the reply's header; an answer without it is `empty`
    ) -> None: ...

class LoadAudience:
    """Watchers who are to be told of every put; its number goes to the beginning of its noise."""

    def __init__(
        self,
        path: str,
        message: bytes,  # makes one watcher
        *,
        watchers: int,
        streams: int,  # the watchers are spread over them
        connections: int,  # the streams are spread over them
    ) -> None: ...

class Load:
    """A run on a thread of its own; it starts with the object."""

    def __init__(
        self,
        targets: Sequence[LoadTarget],  # connections take turns
        operations: Sequence[LoadOperation],
        *,
        connections: int,
        in_flight: int,  # at most, over all connections
        keys: int,  # key numbers are below this
        key_digits: int,
        audience: LoadAudience | None = None,  # a put is in flight until all were told of it
        rate: float | None = None,  # calls per second; None: as fast as answers come
        warm_up_seconds: float = 0.0,  # not measured
        duration_seconds: float | None = None,
        total: int | None = None,  # of measured calls; the first of the two ends the run
        sequential: bool = False,  # key numbers in order instead of at random
        seed: int = 1,
        window_seconds: float = 0.25,
        dial_seconds: float = 2.0,
        drain_seconds: float = 5.0,  # what is unanswered so long after the end is given up
    ) -> None:
        """Raises ValueError saying what is wrong."""

    def wait(self, timeout_seconds: float) -> str:
        """Returns the phase when something has changed since the last call, or after the time.

        "connecting", "warming up", "measuring", "draining", "over".
        """

    def windows(self, first: int) -> list[LoadWindow]:
        """Those from the `first` on that have ended."""

    def counts(self) -> tuple[int, int]:
        """Since the end of the warm-up: answers (with an audience: events), and errors."""

    def stop(self) -> None:
        """Send nothing more; the outcome holds what was measured so far."""

    def outcome(self) -> LoadOutcome:
        """Waits for the end. Raises OSError when there was no connection. To be called once."""

class LoadWindow:
    """A piece of the measured time."""

    begin_seconds: float
    end_seconds: float
    answered: int
    failed: int
    p50_seconds: float
    p99_seconds: float
    max_seconds: float
    silence_seconds: float  # the longest without any answer that ended here, or goes on

class LoadFine:
    """One operation's answers without errors."""

    answered: int
    answered_ever: int  # with the warm-up
    empty: int  # of `answered`: found nothing
    reply_bytes: int
    latencies: list[tuple[int, int]]  # (nanoseconds at most, how many), from due to answered

class LoadHeard:
    """What an audience was told."""

    in_time: int  # events until the end: by `measured_seconds` the rate
    events: LoadFine  # latencies from when the put was due
    after_ack: list[tuple[int, int]]  # as latencies: from the put's answer, 0 if that was later
    lost: int  # summed over the watchers, as the other three
    duplicated: int
    misordered: int
    foreign: int  # events of puts that are not of the run

class LoadOutcome:
    measured_seconds: float
    in_time: int  # answers without errors until the end: by `measured_seconds` the rate
    operations: list[LoadFine]
    heard: LoadHeard | None
    failures: list[tuple[int, int, str]]  # (gRPC code or LOAD_…, how many, the first's text)
    late: list[tuple[int, int]]  # as latencies: from due to sent; only with a rate
    unsent: int  # calls that were due and never sent, because too many were in flight
    redials: int
    cpu_seconds: float  # of the generator's thread, while it measured

# Failures that are no gRPC status.
LOAD_BROKEN: int  # the connection broke; the text says how
LOAD_HTTP: int  # not HTTP status 200
LOAD_NO_STATUS: int  # the answer ended without a gRPC status
LOAD_UNANSWERED: int  # given up after the end of the run
