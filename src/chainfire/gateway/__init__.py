"""Doors: they turn what a protocol brings into calls on `chainfire.api.table`, and never decide."""

import os

# The gRPC library writes lines of its own, in no format of ours, about what we log ourselves. It
# reads this when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
