"""schemathesis over `/openapi.json`: whatever it thinks of, no 500, no crash, no broken promise.

    python -m tests.compat.suites.openapi [--examples 20] [--seed 1]

The member is a fresh one. What would take its own quorum away or lock everybody out is asked
last, in a run of its own. `Grpc-Timeout` ends the streams.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compat.suites.__main__ import ENVIRONMENTS, prepare
from tests.compat.suites.table import Suite
from tests.servers import Server, chainfire

SCHEMATHESIS = Suite("schemathesis", "4.32.5", ("schemathesis==4.32.5",), (), {}, "HTTP")
SETTINGS = """
request-timeout = 20
headers = { Grpc-Timeout = "500m" }

[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 501, 503, 504]

# etcd's answer to an action that does not exist, or of an election that nobody has won, is UNKNOWN:
# 500 in HTTP.
[[operations]]
include-path-regex = "/(maintenance/downgrade|election/(leader|proclaim|resign))$"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 500, 501, 503, 504]
"""
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "allow_header_conformance"),
)
DANGEROUS = "/(alarm|member/(add|remove|update|promote)|auth/(enable|disable|.*/.*)|lock|campaign)$"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20, help="per method and phase")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    prepare(SCHEMATHESIS)
    kind = chainfire()
    assert kind is not None
    with tempfile.TemporaryDirectory(prefix="chainfire-openapi-") as scratch:
        settings = Path(scratch) / "schemathesis.toml"
        settings.write_text(SETTINGS)
        with Server(kind, Path(scratch) / "data") as server:
            results = [
                subprocess.run(
                    [
                        *(str(ENVIRONMENTS / "schemathesis/bin/st"), f"--config-file={settings}"),
                        *("run", f"{server.url}/openapi.json", f"--checks={','.join(CHECKS)}"),
                        *("--phases=coverage,fuzzing", f"--max-examples={arguments.examples}"),
                        *(f"--seed={arguments.seed}", "--suppress-health-check=all"),
                        *("--continue-on-failure", "--warnings=off", *selection),
                    ],
                    cwd=scratch,
                    check=False,
                ).returncode
                for selection in (
                    ("--exclude-path-regex", DANGEROUS),
                    ("--include-path-regex", DANGEROUS),
                )
            ]
            assert server.process is not None
            if server.process.poll() is not None:
                print(server.log())
                return 1
            if "handler failed" in server.log(1 << 24):
                print("handlers failed:", server.log())
                return 1
    return max(results)


if __name__ == "__main__":
    sys.exit(main())
