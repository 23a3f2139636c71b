"""The kinds of doors that a test is run with."""

from __future__ import annotations

import pytest

from tests.gateway.doors import HAS_NATIVE, KINDS


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of a door for gRPC."""
    if request.param == "native" and not HAS_NATIVE:
        pytest.skip("the native door is not installed")
    return str(request.param)
