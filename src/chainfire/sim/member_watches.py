"""The product's hub of watchers on one member, for one life of it: what the shell does about it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from chainfire.machine import Machine
from chainfire.mvcc.store import Mvcc
from chainfire.proto.kv_pb2 import ResponseHeader
from chainfire.proto.watch_pb2 import WatchResponse
from chainfire.storage.backend import Reader
from chainfire.watch.hub import Hub

FRAGMENT_BYTES_MAX: Final = 1 << 20


class MemberWatches:
    """The hub's Source. `later` does a step of the member soon."""

    def __init__(
        self,
        backend: Reader,
        machine: Machine,
        catch_up: Callable[[], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        """`catch_up` is the driver's."""
        self.backend = backend
        self._machine = machine
        self._driver_catches_up = catch_up
        self._later = later
        self._told = machine.revision
        self.hub = Hub(
            self,
            self._told,
            header=_header,
            run=self._run,
            may_read=lambda: machine.may_be_read,
            catch_up=self._catch_up,
            fragment_bytes_max=FRAGMENT_BYTES_MAX,
        )

    @property
    def store(self) -> Mvcc:
        return self._machine.store

    def before_turn(self) -> None:
        self._machine.keeps_changes = self.hub.wants_changes

    def after_turn(self) -> None:
        """Before anybody is answered."""
        revision = self._machine.revision
        if revision != self._told:
            self._told = revision
            self.hub.applied(self._machine.take_changes(), revision)

    def _catch_up(self) -> None:
        self._driver_catches_up()
        self.after_turn()

    def _run(self, work: Generator[None, None, None]) -> None:
        def step() -> None:
            if next(work, self) is not self:
                self._later(step)

        self._later(step)


def _header(revision: int) -> bytes:
    return WatchResponse(header=ResponseHeader(revision=revision)).SerializeToString()
