"""Three members as pifpaf starts them, for a suite that was written with it.

The first listens on 2379, whatever the suite is told otherwise; their names are arguments of their
own, because the suite finds the processes that it pauses by `--name pifpaf1`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.clusters import Cluster, Member
from tests.servers import free_port

PORT = 2379


@dataclass(slots=True)
class _Member(Member):
    def command(self) -> list[str]:
        flags = [flag for flag in Member.command(self) if flag != f"--name={self.name}"]
        return [*flags, "--name", self.name]


class Pifpaf(Cluster):
    """Use as a `Cluster`."""

    def _make(self, name: str) -> Member:
        number = len(self.members)
        member = _Member(self.kind, self.directory / name, self.flags, name=f"pifpaf{number}")
        member.port = free_port() if number else PORT
        member.peer_port = free_port()
        member.peer_url = f"http://127.0.0.1:{member.peer_port}"
        return member
