"""Generate src/chainfire/proto from proto/; `--out DIR` writes elsewhere (the freshness test).

The compiler is protoc 27.2 (grpcio-tools 1.66.2), which `make setup` puts into .venv/protoc, apart
from the environment: generated code of that age runs on every protobuf from 5.27.2 to 7.x, so that
our users' own pins do not break us.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOC = ROOT / ".venv" / "protoc"


def generate(out: Path) -> None:
    """Write chainfire/proto/*_pb2.py and .pyi below `out`, and remove those without a source."""
    sources = sorted(path.relative_to(ROOT / "proto") for path in ROOT.glob("proto/**/*.proto"))
    arguments = ["-I.", f"--python_out={out}", f"--pyi_out={out}", *map(str, sources)]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments],
        cwd=ROOT / "proto",
        env={**os.environ, "PYTHONPATH": str(PROTOC)},
        check=True,
    )
    wanted = {path.stem for path in sources}
    for old in out.glob("chainfire/proto/*_pb2.py*"):
        if old.stem.removesuffix("_pb2") not in wanted:
            old.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "src")
    options = parser.parse_args()
    if not PROTOC.is_dir():
        print(f"{PROTOC} is missing: run `make setup`", file=sys.stderr)
        return 1
    generate(options.out.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
