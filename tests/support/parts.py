"""Skip a test with the missing part as its reason, or fail where all parts are required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing_part(name: str, reason: str) -> NoReturn:
    """Skip the test with "missing part NAME: reason"; fail with QUANTD_REQUIRE=all.

    QUANTD_WITHOUT is the name of a part that can't be had, and that is not required then.
    """
    message = f"missing part {name}: {reason}"
    if os.environ.get("QUANTD_REQUIRE") == "all" and os.environ.get("QUANTD_WITHOUT") != name:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
