"""What is advised when TensorRT built nothing, in words that it really used."""

from __future__ import annotations

import pytest

from agent.adapters.engines.builder_tensorrt import _cure

NO_KERNEL = (
    "Error Code 10: Internal Error (Could not find any implementation for node conv, "
    "no runners that implement it.)"
)
NO_WORKSPACE = (
    "Could not find any implementation for node conv due to insufficient workspace. "
    "See verbose log for requested sizes."
)
MYELIN = "Error Code 1: Myelin ([myelin_graph.h] MyelinCheckException: CHECK(p) failed)"


@pytest.mark.parametrize(
    ("reported", "limit_mb", "cure"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)", 0, "free memory"),
        ("Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)", 64, "= 64 may be"),
        (NO_WORKSPACE, 64, "raise it"),
        (NO_KERNEL, 64, "replace the layer"),
        ("Unsupported data type INT64", 0, "replace the layer"),
        (MYELIN, 64, "if it was short"),
        ("no reason given", 0, "if it was short"),
    ],
)
def test_memory_is_advised_only_where_it_may_help(reported, limit_mb, cure):
    assert cure in _cure(reported, limit_mb)
