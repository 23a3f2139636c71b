"""What can go wrong between a client and a cluster, and when a call may be tried again. Pure.

    ChainfireError
    ├── RequestError     the server's answer, as the class that its text names (errors.py)
    └── ClientError
        ├── Unreachable     no endpoint took the request; nothing was changed
        ├── TimedOut        a read had no answer in time; nothing was changed
        ├── OutcomeUnknown  a write was sent and its answer lost: it may have been executed
        └── ServerFault     an answer whose text names no class; `status` is its gRPC code

A read is tried again wherever an endpoint is unavailable. A write is tried
again only if it certainly was not executed: it was never sent, or a learner
refused it. (etcd client/v3/retry.go, retry_interceptor.go)
"""

from __future__ import annotations

from chainfire import errors
from chainfire.errors import ChainfireError, Code, RequestError


class ClientError(ChainfireError):
    """Root of what the client itself reports."""


class Unreachable(ClientError):
    """No endpoint could be reached. Nothing was changed."""

    code = Code.UNAVAILABLE


class TimedOut(ClientError):
    """The read had no answer in time. Nothing was changed."""

    code = Code.DEADLINE_EXCEEDED


class OutcomeUnknown(ClientError):
    """The write was sent, but its answer did not arrive: look before you repeat it."""

    code = Code.UNAVAILABLE


class ServerFault(ClientError):
    """The server answered with an error that names no class of ours."""

    def __init__(self, status: Code, text: str) -> None:
        super().__init__(f"{text or 'no explanation'} ({status.name})")
        self.status = status


class Failure(Exception):
    """One attempt on one endpoint failed. `sent` False: the server cannot have seen it."""

    def __init__(self, code: Code, text: str, *, sent: bool) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text
        self.sent = sent


def _classes_by_text() -> dict[str, type[RequestError]]:
    found: dict[str, type[RequestError]] = {}
    for item in vars(errors).values():  # in the order of the table, so that its first one counts
        if isinstance(item, type) and issubclass(item, RequestError) and item.text:
            found.setdefault(item.text, item)
    return found


_BY_TEXT = _classes_by_text()
_NOT_A_LEARNERS_JOB = errors.NotSupportedForLearner.text


def error_of(failure: Failure, *, is_read: bool) -> ChainfireError:
    """What the caller is told after the last attempt."""
    known = _BY_TEXT.get(failure.text)
    if known is not None:
        return known()
    if not failure.sent:
        return Unreachable(failure.text)
    if failure.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED):
        if not is_read:
            return OutcomeUnknown(f"the write may have been executed: {failure.text}")
        if failure.code is Code.DEADLINE_EXCEEDED:
            return TimedOut(failure.text)
        return Unreachable(failure.text)
    return ServerFault(failure.code, failure.text)


def may_retry(failure: Failure, *, is_read: bool) -> bool:
    if not failure.sent or failure.text == _NOT_A_LEARNERS_JOB:
        return True
    return is_read and failure.code is Code.UNAVAILABLE


class Attempts:
    """The course of one call over the endpoints: which is next, and after what pause.

    Every endpoint is tried in turn, without a pause; a round that failed
    altogether is followed by a growing one. The clock and chance are the caller's.
    The last pause is longer than any that gRPC makes between two dials: a server
    that is back is found.
    """

    ROUNDS_MAX = 4
    PAUSE_SECONDS = 0.025

    def __init__(self, endpoints: int, first: int, *, is_read: bool) -> None:
        assert 0 <= first < endpoints, (first, endpoints)
        self._endpoints = endpoints
        self._is_read = is_read
        self._failed = 0
        self.endpoint = first

    def failed(self, failure: Failure, chance: float) -> float | None:
        """Seconds to wait before trying `endpoint`, or None: give up. `chance` in [0, 1)."""
        self._failed += 1
        rounds, into_round = divmod(self._failed, self._endpoints)
        if rounds >= self.ROUNDS_MAX or not may_retry(failure, is_read=self._is_read):
            return None
        self.endpoint = (self.endpoint + 1) % self._endpoints
        if into_round:
            return 0.0
        return self.PAUSE_SECONDS * 4.0 ** (rounds - 1) * (0.9 + 0.2 * chance)
