"""From an error to what the user reads and what a script gets: text, advice, exit code."""

from __future__ import annotations

from dataclasses import dataclass

from chainfire import errors
from chainfire.client.faults import OutcomeUnknown, ServerFault, TimedOut, Unreachable
from chainfire.errors import ChainfireError

# etcdctl's (pkg/cobrautl/error.go)
ERROR, BAD_CONNECTION, INVALID_INPUT, BAD_FEATURE = 1, 2, 3, 4
BAD_CONFIG = 2


@dataclass(frozen=True, slots=True)
class Explanation:
    text: str
    exit_code: int
    advice: str = ""


_EXIT_CODES: dict[type[ChainfireError], int] = {
    Unreachable: BAD_CONNECTION,
    errors.ConfigError: BAD_CONFIG,
    errors.InvalidArgument: INVALID_INPUT,
    ServerFault: BAD_FEATURE,
}

_ADVICE: dict[type[ChainfireError], str] = {
    Unreachable: "start a server with `chainfire serve`, or name another with --endpoints",
    TimedOut: "a longer --command-timeout, or `chainfire status` to see how the members are",
    OutcomeUnknown: "read the key before repeating the write: it may have been executed",
    errors.Compacted: "a newer revision, or none for the current state",
    errors.FutureRevision: "a smaller revision; `chainfire get KEY -w json` shows the current one",
    errors.NoSpace: "delete keys and `chainfire compact`, or raise --quota-backend-bytes",
    errors.NoLeader: "`chainfire status` on every member: a majority must be up",
    errors.RequestTooLarge: "smaller values, or raise the server's --max-request-bytes",
    errors.TooManyOps: "several transactions, or raise the server's --max-txn-ops",
    errors.ConfigError: "`chainfire config example` shows every option",
}


def explain(exc: ChainfireError) -> Explanation:
    text = exc.message if isinstance(exc, errors.RequestError) else str(exc)
    kind = type(exc)
    return Explanation(text, _EXIT_CODES.get(kind, ERROR), _ADVICE.get(kind, ""))
