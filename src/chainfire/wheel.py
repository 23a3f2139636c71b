"""Whether the wheel `chainfire-native` is here, and is the one that this tree was written for.

Both sides carry the number of the border between them; who changes
native/chainfire_native.pyi, or what a function behind it writes, raises it in
native/src/lib.rs and here (tests/house/test_wheel.py). A wheel with another
number is used for nothing: its codec may write other bytes than ours.
"""

from __future__ import annotations

from typing import Final

BORDER_VERSION: Final = 7


def _fault() -> str | None:
    try:
        import chainfire_native
    except ModuleNotFoundError:
        return "the wheel chainfire-native is not installed: `make setup`, with cargo at hand"
    except ImportError as exc:
        return f"the wheel chainfire-native cannot be loaded ({exc}): `make setup`"
    found = getattr(chainfire_native, "BORDER_VERSION", 0)
    if found == BORDER_VERSION:
        return None
    return (
        f"the wheel chainfire-native {chainfire_native.__version__} that is installed has border "
        f"{found}, this Chainfire {BORDER_VERSION}: `make setup` builds the one that fits"
    )


FAULT: Final = _fault()  # why the wheel is not used, and what to do; None: it fits
