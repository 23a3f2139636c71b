"""The historic bugs can be put back; one of them, as a canary, is found, replayed and shrunk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chainfire.raft import follower
from chainfire.raft.messages import Message
from chainfire.raft.state import Raft
from chainfire.sim.run import run_shape
from chainfire.sim.shape import draw
from chainfire.sim.shrink import shrink
from tests import report
from tests.sim import hunt


@pytest.mark.parametrize("mutant", hunt.mutants(), ids=lambda mutant: mutant.name)
def test_every_mutant_applies(mutant: hunt.Mutant) -> None:
    assert mutant.what
    assert mutant.cites
    assert mutant.confirmed, "somebody who did not write it says whether it is the cited bug"
    command = ["git", "apply", "--check", "-p1", str(mutant.patch)]
    done = subprocess.run(command, cwd=hunt.ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_a_canary_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers acknowledge before their disk has it."""

    def hasty(raft: Raft, leader: int, index: int) -> None:
        reply = Message(follower._APPEND_REPLY, leader, raft.id, raft.term, 0, index)
        raft.messages.append(reply)

    monkeypatch.setattr(follower, "_acknowledge", hasty)
    found = next(
        outcome
        for seed in range(20)
        if (outcome := run_shape(draw(seed, seconds=2))).broken and "acknowledges" in outcome.broken
    )
    smaller = shrink(found, tries_max=30, say=lambda _: None)
    assert smaller.kind == found.kind
    assert len(smaller.shape.faults) <= len(found.shape.faults)
    again = run_shape(smaller.shape, traced=True)
    assert (again.broken, again.digest) == (smaller.broken, smaller.digest)
    assert any("APPEND" in line for line in again.trace)
    report.count("planted bugs found by the simulator")


def test_changed_lines_are_those_of_the_patched_file(tmp_path: Path) -> None:
    mutant = next(m for m in hunt.mutants() if m.name == "half-is-a-majority")
    assert not hunt.apply(mutant, tmp_path)
    lines = list(hunt.changed_lines(mutant, tmp_path))
    patched = [Path(path).read_text().splitlines()[line - 1] for path, line in lines]
    added = [line[1:] for line in mutant.patch.read_text().splitlines() if line.startswith("+ ")]
    assert patched == added


def test_kept_results_are_of_this_very_mutant_and_task(tmp_path: Path) -> None:
    one, other = hunt.mutants()[:2]
    result = hunt.Result(one.name, seeds=3, found_at=17, found="two leaders", cpu_seconds=1.5)
    file = tmp_path / "kept.jsonl"
    hunt.Kept(file, (0, 1000, 4)).add(one, result)
    kept = hunt.Kept(file, (0, 1000, 4))
    assert (kept.get(one), kept.get(other)) == (result, None)
    assert hunt.Kept(file, (0, 500, 4)).get(one) is None


def test_the_summary_names_what_was_not_found_and_what_proves_nothing() -> None:
    chosen = [m for m in hunt.mutants() if m.name in {"half-is-a-majority", "learners-count"}]
    missed = hunt.Result("half-is-a-majority", seeds=9)
    faulty = hunt.Result("learners-count", fault="does not apply: no such file")
    said = "\n".join(hunt.summary(chosen, [missed, faulty], 9))
    assert "0 of 2 found within 9 seeds" in said
    assert "0 of the 2 that others shipped" in said
    assert "NOT FOUND half-is-a-majority" in said
    assert "FAULTY learners-count: does not apply" in said
