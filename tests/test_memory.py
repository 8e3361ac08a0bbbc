"""The memory that a job leaves free, on trees of /proc as boards have them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from agent.memory import free_bytes, scratch_mb

SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ZRAM = "".join(
    f"/dev/zram{n}                              partition\t640000\t\t0\t\t5\n" for n in range(6)
)
NVME = "/swapfile                               file\t\t8388604\t\t1048576\t\t-2\n"


def proc(root: Path, *, available_kb: int = 2_000_000, swaps: str = "") -> Path:
    """Make the two files that are read."""
    (root / "proc").mkdir()
    (root / "proc" / "meminfo").write_text(
        f"MemTotal:        7802000 kB\nMemFree:          500000 kB\nMemAvailable:    {available_kb} kB\n"
    )
    (root / "proc" / "swaps").write_text(SWAPS + swaps)
    return root


@pytest.mark.parametrize(
    ("swaps", "swap_kib"),
    [("", 0), (ZRAM, 0), (NVME, 8388604 - 1048576), (ZRAM + NVME, 8388604 - 1048576)],
    ids=["none", "zram, as JetPack sets it up", "a file on NVMe", "both"],
)
def test_swap_counts_where_it_is_no_memory_itself(tmp_path, swaps, swap_kib):
    """A page that goes into zram stays in the memory that it was to make room in."""
    assert free_bytes(proc(tmp_path, swaps=swaps)) == (2_000_000 + swap_kib) << 10


def test_where_the_files_are_hidden_the_memory_is_asked_for_otherwise(tmp_path):
    assert 0 < free_bytes(tmp_path) <= psutil.virtual_memory().total


def test_of_this_machine_as_much_is_free_as_the_kernel_reports():
    most = psutil.virtual_memory().available + psutil.swap_memory().free
    assert 0 < free_bytes() < most * 1.2


def test_a_builders_scratch_memory_is_half_of_what_is_free_beyond_the_reserve(tmp_path):
    root = proc(tmp_path, swaps=NVME)  # the GPU can't use swap
    assert scratch_mb(200 << 20, root) == (2_000_000 // 1024 - 200) // 2


def test_with_nothing_free_there_is_still_a_limit(tmp_path):
    assert scratch_mb(200 << 20, proc(tmp_path, available_kb=1000)) == 64
