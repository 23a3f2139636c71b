"""Chainfire: a distributed, strongly consistent key-value store, an etcd v3 drop-in in Python.

Importing this package costs next to nothing: public names are looked up when they are first asked
for. ARCHITECTURE.md says what lies where.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from chainfire import compiled as _compiled  # noqa: F401  # first: it may take others' places
from chainfire.version import VERSION

if TYPE_CHECKING:
    from chainfire.client import CasOutcome, Client, SyncClient, connect, connect_sync
    from chainfire.errors import ChainfireError, FatalError, RequestError

__all__ = [
    "CasOutcome",
    "ChainfireError",
    "Client",
    "FatalError",
    "RequestError",
    "SyncClient",
    "__version__",
    "connect",
    "connect_sync",
]

__version__ = VERSION

_HOME = {
    **dict.fromkeys(("CasOutcome", "Client", "SyncClient"), "chainfire.client"),
    **dict.fromkeys(("connect", "connect_sync"), "chainfire.client"),
    **dict.fromkeys(("ChainfireError", "FatalError", "RequestError"), "chainfire.errors"),
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'chainfire' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
