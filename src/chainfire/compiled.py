"""Whether the wheel `chainfire-compiled` is here and was made of these sources; if so it runs.

The wheel holds the hot modules, translated to C by mypyc (compiled/setup.py).
A module of it takes the place of the one of the same name as soon as that is
imported. All of them or none: they know each other's layout. One source that
has changed since leaves the wheel unused, as does CHAINFIRE_PURE=1.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import source_hash, spec_from_file_location
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

PURE_VARIABLE: Final = "CHAINFIRE_PURE"
_LIBRARY: Final = "chainfire__mypyc"  # what all the modules lie in


class _Finder:
    """Finds the modules of the wheel, ahead of those of this directory."""

    def __init__(self, directory: str, names: frozenset[str]) -> None:
        self._directory = directory
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        file = f"{self._directory}/{name.replace('.', '-')}{EXTENSION_SUFFIXES[0]}"
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))


def _changed(sources: Mapping[str, str]) -> str | None:
    """The first module whose source is not the one that was compiled."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name, expected in sources.items():
        try:
            with open(f"{root}/{name.replace('.', '/')}.py", "rb") as file:
                found = source_hash(file.read()).hex()
        except FileNotFoundError:
            return name
        if found != expected:
            return name
    return None


def _fault() -> str | None:
    if os.environ.get(PURE_VARIABLE):
        return f"{PURE_VARIABLE} is set"
    try:
        import chainfire_compiled
    except ModuleNotFoundError:
        return "the wheel chainfire-compiled is not installed: `make compiled`"
    changed = _changed(chainfire_compiled.SOURCES)
    if changed is not None:
        return f"the wheel chainfire-compiled was made of another {changed}: `make compiled`"
    directory = os.path.dirname(os.path.abspath(chainfire_compiled.__file__))
    names = frozenset((*chainfire_compiled.SOURCES, _LIBRARY))
    sys.meta_path.insert(0, _Finder(directory, names))
    return None


FAULT: Final = _fault()  # why the wheel is not used, and what to do; None: it runs
