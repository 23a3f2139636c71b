"""The one tree of errors. Every class carries its gRPC status code and etcd's exact text.

Go clients of etcd match on the text, others on the code; both must be right
(texts and codes: etcd api/v3rpc/rpctypes/error.go, as of 3.7).

    ChainfireError
    ├── RequestError        the caller's request failed; code and text go to the caller
    │   └── one class per row of etcd's table, and a few of ours at the end
    └── FatalError          this member must stop; nothing was acknowledged
        ├── StorageError    Corrupt, DiskFull, Stalled, SyncFailed
        └── ...             Unknown command, wrong directory, damaged member, our own mistake

Nobody raises ChainfireError, RequestError or FatalError themselves.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """gRPC status codes (grpc/doc/statuscodes.md); `wire_name` is how Go prints them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ChainfireError(Exception):
    """Root of the tree."""

    code: ClassVar[Code] = Code.UNKNOWN
    text: ClassVar[str] = ""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.text)
        self.detail = detail


class RequestError(ChainfireError):
    """The request failed and left no trace; `message` is what the caller is told.

    The message is etcd's text to the letter; `detail` is for our own log.
    """

    @property
    def message(self) -> str:
        return self.text or self.detail


class FatalError(ChainfireError):
    """This member cannot go on. `detail` says what happened, where, and what to do."""


# ── etcd's table ────────────────────────────────────────────────────────────


class EmptyKey(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: key is not provided"


class KeyNotFound(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: key not found"


class ValueProvided(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: value is provided"


class LeaseProvided(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: lease is provided"


class TooManyOps(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: too many operations in txn request"


class DuplicateKey(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: duplicate key given in txn request"


class InvalidClientApiVersion(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: invalid client api version"


class InvalidSortOption(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: invalid sort option"


class Compacted(RequestError):
    code = Code.OUT_OF_RANGE
    text = "etcdserver: mvcc: required revision has been compacted"


class FutureRevision(RequestError):
    code = Code.OUT_OF_RANGE
    text = "etcdserver: mvcc: required revision is a future revision"


class NoSpace(RequestError):
    code = Code.RESOURCE_EXHAUSTED
    text = "etcdserver: mvcc: database space exceeded"


class LeaseNotFound(RequestError):
    code = Code.NOT_FOUND
    text = "etcdserver: requested lease not found"


class LeaseExists(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: lease already exists"


class LeaseTtlTooLarge(RequestError):
    code = Code.OUT_OF_RANGE
    text = "etcdserver: too large lease TTL"


class WatchCanceled(RequestError):
    code = Code.CANCELLED
    text = "etcdserver: watch canceled"


class MemberExists(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: member ID already exist"


class PeerUrlExists(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: Peer URLs already exists"


class NotEnoughStartedMembers(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: re-configuration failed due to not enough started members"


class MemberBadUrls(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: given member URLs are invalid"


class MemberNotFound(RequestError):
    code = Code.NOT_FOUND
    text = "etcdserver: member not found"


class MemberNotLearner(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: can only promote a learner member"


class LearnerNotReady(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearners(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: too many learner members in cluster"


class ClusterIdMismatch(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: cluster ID mismatch"


class RequestTooLarge(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: request is too large"


class TooManyRequests(RequestError):
    code = Code.RESOURCE_EXHAUSTED
    text = "etcdserver: too many requests"


class RootUserNotExist(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: root user does not exist"


class RootRoleNotGranted(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: root user does not have root role"


class UserExists(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: user name already exists"


class UserEmpty(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: user name is empty"


class UserNotFound(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: user name not found"


class RoleExists(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: role name already exists"


class RoleNotFound(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: role name not found"


class RoleEmpty(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: role name is empty"


class AuthFailed(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: authentication failed, invalid user ID or password"


class PermissionNotGiven(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: permission not given"


class PermissionDenied(RequestError):
    code = Code.PERMISSION_DENIED
    text = "etcdserver: permission denied"


class RoleNotGranted(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: role is not granted to the user"


class PermissionNotGranted(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: permission is not granted to the role"


class AuthNotEnabled(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: authentication is not enabled"


class InvalidAuthToken(RequestError):
    code = Code.UNAUTHENTICATED
    text = "etcdserver: invalid auth token"


class InvalidAuthManagement(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: invalid auth management"


class AuthOldRevision(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: revision of auth store is old"


class NoLeader(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: no leader"


class NotLeader(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: not leader"


class LeaderChanged(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: leader changed"


class NotCapable(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: not capable"


class Stopped(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: server stopped"


class Timeout(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out"


class TimeoutLeaderFailure(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out, possibly due to previous leader failure"


class TimeoutConnectionLost(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out, possibly due to connection lost"


class TimeoutWaitApplied(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out, waiting for the applied index took too long"


class TimeoutLeaderTransfer(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out, leader transfer took too long"


class Unhealthy(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: unhealthy cluster"


class CorruptCluster(RequestError):
    code = Code.DATA_LOSS
    text = "etcdserver: corrupt cluster"


class NotSupportedForLearner(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: rpc not supported for learner"


class BadLeaderTransferee(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: bad leader transferee"


class WrongDowngradeVersionFormat(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: wrong downgrade target version format"


class InvalidDowngradeTargetVersion(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: invalid downgrade target version"


class ClusterVersionUnavailable(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: cluster version not found during downgrade"


class DowngradeInProcess(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: cluster has a downgrade job in progress"


class NoInflightDowngrade(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: no inflight downgrade job"


class RequestCanceled(RequestError):
    code = Code.CANCELLED
    text = "etcdserver: request canceled"


class RequestDeadlineExceeded(RequestError):
    code = Code.DEADLINE_EXCEEDED
    text = "etcdserver: context deadline exceeded"


class SessionExpired(RequestError):
    """The lease, or the key, of somebody who waits for a lock is gone."""

    code = Code.UNKNOWN
    text = "mutex: session is expired"


class NotElected(RequestError):
    """Who speaks is not the leader of this election, or not any more."""

    code = Code.UNKNOWN
    text = "election: not leader"


class NobodyElected(RequestError):
    code = Code.UNKNOWN
    text = "election: no leader"


class MissingLeaderKey(RequestError):
    code = Code.UNKNOWN
    text = '"leader" field must be provided'


class UnknownMethod(RequestError):
    """An action number that the method does not have."""

    code = Code.UNKNOWN
    text = "etcdserver: unknown method"


# ── Ours: for a client they are plain gRPC errors ───────────────────────────


class InvalidArgument(RequestError):
    """A combination of our own fields that has no meaning."""

    code = Code.INVALID_ARGUMENT


class Malformed(RequestError):
    """The request's bytes are not a message of the method's type."""

    code = Code.INTERNAL

    @classmethod
    def of(cls, reason: Exception) -> Malformed:
        """With what the parser says, in grpc-go's words."""
        return cls(f"grpc: error unmarshalling request: {reason}")


class Unimplemented(RequestError):
    code = Code.UNIMPLEMENTED


class InternalError(RequestError):
    """A mistake of ours while answering; the log has it. The member goes on."""

    code = Code.INTERNAL
    text = "chainfire: internal error"


class StateDamaged(RequestError):
    """This member cannot read all of its state, and stops, or heals itself from the others."""

    code = Code.DATA_LOSS
    text = "chainfire: the state of this member is damaged, ask another one"


class Outdated(RequestError):
    """The command was void: sent twice, or by an earlier start of its sender."""

    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out"


# ── The world's failures that stop a member ─────────────────────────────────


class StorageError(FatalError):
    """Root of what a storage backend raises."""


class Corrupt(StorageError):
    """Stored bytes are not what was written. Nothing read from there can be trusted."""

    code = Code.DATA_LOSS


class DiskFull(StorageError):
    """The write was refused for want of space; nothing of it was kept."""

    code = Code.RESOURCE_EXHAUSTED


class Stalled(StorageError):
    """The engine asks to wait (write stall). Nothing was written; try again later."""

    code = Code.UNAVAILABLE


class SyncFailed(StorageError):
    """A sync failed: what was written since the last good one may or may not survive.

    The process must stop and read the truth on its next start (fsyncgate).
    """


class UnknownFormat(FatalError):
    """Bytes of a format, or a command, that this version does not know."""


class DataDirLocked(FatalError):
    """Another process holds the data directory; the detail names it."""


class DataDirMismatch(FatalError):
    """The data directory belongs to another cluster, member or layout."""


class Removed(FatalError):
    """The member was removed from its cluster, for good."""


class Damaged(FatalError):
    """The member's disk holds less than the member had promised."""


class OlderCopy(Damaged):
    """The member's data directory is one that it had before: others know more of it."""

    def __init__(self, detail: str, start_number: int = 0) -> None:
        super().__init__(detail)
        self.start_number = start_number  # of a later start that was met; 0: of none


class Diverged(FatalError):
    """The member's log, or what it has made of it, is not the majority's."""


class InternalFailure(FatalError):
    """A mistake of ours in the member's own work: its memory cannot be trusted any more."""


class DoorFailed(FatalError):
    """The native door's thread is dead; nobody can be served any more."""


class ConfigError(FatalError):
    """The configuration cannot be used; the detail says which key and what is allowed."""
