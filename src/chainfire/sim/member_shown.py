"""What one member has shown to clients in all its lives: after a start it shows no less."""

from __future__ import annotations

from typing import Final

from chainfire.errors import RequestError
from chainfire.node.driver import Driver
from chainfire.proto.kv_pb2 import LOCAL, SERIALIZABLE
from chainfire.sim.history import Violation


class Shown:
    def __init__(self, member_id: int) -> None:
        self._member_id = member_id
        self._revision = 1  # the newest that was shown, ever
        self._earlier = 1  # in the lives before this one
        self._driver: Driver | None = None  # of the life that began last

    def begin(self, driver: Driver) -> None:
        """Of a life that begins: it is asked before it has done anything.

        Whoever needs no other member is told at once, or has to wait.
        """
        self._driver = driver
        self._earlier = self._revision
        for level in (LOCAL, SERIALIZABLE):
            reader = _FirstReader(self, driver)
            if driver.read(level, 0, None, reader):
                reader.ready()

    def answered(self, revision: int) -> None:
        """A client was told of this revision."""
        self._revision = max(self._revision, revision)

    def may_be_read(self, driver: Driver) -> None:
        """Raises Violation before this life knows all that earlier ones have shown."""
        assert driver is self._driver, "of an earlier life"
        revision = driver.machine.revision
        if revision < self._earlier:
            raise Violation(
                f"member {self._member_id} is read at revision {revision}, it had shown "
                f"{self._earlier} before its last start"
            )
        self.answered(revision)


class _FirstReader:
    """A ReadPending: somebody asks a member that has just started."""

    finished: Final = False

    def __init__(self, shown: Shown, driver: Driver) -> None:
        self._shown = shown
        self._driver = driver

    def ready(self) -> None:
        self._shown.may_be_read(self._driver)

    def refused(self, error: RequestError) -> None:
        pass
