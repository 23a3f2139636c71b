"""What a test run did, counted by the tests themselves and printed at its end by conftest.py.

    report.count("raft scripts", 31)      add to a figure of the summary
    report.peer("etcd 3.5.1")             name a foreign program that took part

Counts are of what was carried out, so call them after the check, not before.
"""

from __future__ import annotations

from collections import Counter

counts: Counter[str] = Counter()
peers: Counter[str] = Counter()


def count(what: str, number: int = 1) -> None:
    assert number >= 0, (what, number)
    counts[what] += number


def peer(name: str) -> None:
    peers[name] += 1


def lines() -> list[str]:
    """The summary, one line a figure."""
    rows = [f"{number:>10,}  {what}" for what, number in sorted(counts.items())]
    if peers:
        named = ", ".join(f"{name} ({times}×)" for name, times in sorted(peers.items()))
        rows.append(f"{len(peers):>10,}  peers: {named}")
    return rows
