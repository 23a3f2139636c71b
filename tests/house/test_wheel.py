"""The border between the native wheel and us has a number, and whoever changes it raises it."""

from __future__ import annotations

import re
from hashlib import sha256

from chainfire.wheel import BORDER_VERSION
from tests.house.source import ROOT

# Of native/chainfire_native.pyi. Does it differ? Then raise BORDER_VERSION in native/src/lib.rs and
# src/chainfire/wheel.py, unless only words have changed, and write the new digest here.
STUB = "ae148d1cc9f6c75c"


def test_both_sides_have_the_same_number() -> None:
    source = (ROOT / "native/src/lib.rs").read_text()
    numbers = re.findall(r"pub const BORDER_VERSION: u32 = (\d+);", source)
    assert numbers == [str(BORDER_VERSION)]


def test_a_changed_border_has_a_new_number() -> None:
    assert sha256((ROOT / "native/chainfire_native.pyi").read_bytes()).hexdigest()[:16] == STUB
