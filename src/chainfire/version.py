"""The versions, each in this one place.

`API_VERSION` is the etcd release whose behaviour we follow: clients read it in
`Status.version`, tools in `chainfire etcd --version` and `/version`.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"  # of this package
API_VERSION: Final = "3.7.1"
CLUSTER_VERSION: Final = "3.7.0"  # what a cluster of this version agrees on
STORAGE_VERSION: Final = "3.7.0"  # Status.storageVersion
