"""What is generated is what its sources say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import report
from tests.house.source import ROOT

GENERATED = ROOT / "src/chainfire/proto"


def files_of(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.glob("*_pb2.py*")}


def test_generated_protobuf_is_fresh(tmp_path: Path) -> None:
    """If this fails, run `make proto` and commit what it wrote."""
    done = subprocess.run(
        [sys.executable, "scripts/generate_proto.py", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fresh, kept = files_of(tmp_path / "chainfire/proto"), files_of(GENERATED)
    assert sorted(kept) == sorted(fresh)
    assert [name for name in fresh if kept[name] != fresh[name]] == []
    report.count("generated files held against their sources", len(fresh))


@pytest.mark.parametrize("path", sorted(GENERATED.glob("*_pb2.py")), ids=lambda path: path.stem)
def test_generated_code_runs_on_the_oldest_protobuf_we_allow(path: Path) -> None:
    assert "\n# Protobuf Python Version: 5.27.2\n" in path.read_text()
