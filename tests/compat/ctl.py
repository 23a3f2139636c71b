"""Runs the stock etcdctl and brings its output to a form that two servers can share."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass

CTL_SECONDS = 30

# What differs between any two servers: ids, terms, sizes, times, ports, hashes.
_VOLATILE = (
    (re.compile(r'("(?:cluster_id|member_id|raft_term|ID|leader|MemberID)":)\d+'), r"\1N"),
    (re.compile(r'("(?:ClusterID|MemberID|RaftTerm)" : )\d+'), r"\1N"),
    (re.compile(r"memberID:\d+"), "memberID:N"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST:PORT"),
    (re.compile(r"took = \S+"), "took = T"),
)


@dataclass(frozen=True, slots=True)
class Output:
    code: int
    out: str
    error: str  # the lines that start with "Error:"; the client's own log lines are left out


@dataclass(frozen=True, slots=True)
class Ctl:
    program: str
    target: str

    def __call__(self, command: str, stdin: str = "", seconds: float = CTL_SECONDS) -> Output:
        """Run `etcdctl <command>`, split as a shell would; the output is made comparable."""
        done = self._run(command, stdin, seconds)
        errors = [line for line in done.stderr.decode().splitlines() if line[:1] != "{"]
        return Output(
            done.returncode,
            _settle(done.stdout.decode("utf-8", "backslashreplace")),
            _settle("\n".join(errors)),
        )

    def raw(self, command: str) -> str:
        """The output as it is; raises when the command fails."""
        done = self._run(command, "", CTL_SECONDS)
        done.check_returncode()
        return done.stdout.decode()

    def _run(self, command: str, stdin: str, seconds: float) -> subprocess.CompletedProcess[bytes]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
        return subprocess.run(
            [self.program, f"--endpoints={self.target}", *shlex.split(command)],
            input=stdin.encode(),
            capture_output=True,
            env={**env, "ETCDCTL_API": "3"},
            timeout=seconds,
            check=False,
        )


def _settle(text: str) -> str:
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text
