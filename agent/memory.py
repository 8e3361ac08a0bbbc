"""Memory limits of jobs.

On a Jetson the GPU's allocations come from the same memory and are not part of any process's
resident size, so the limit is on the free memory; the reported peak is the child's own.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import psutil

from agent.core.errors import JobError
from agent.disk import text_of
from agent.ports.jobs import JobSpec

_SHARE = 0.02
_LEAST_BYTES = 64_000_000
_LEAST_SCRATCH_MB = 64
_EVERY_S = 0.25
_HERE = Path("/")


def default_reserve() -> int:
    """Return the memory that jobs must leave free, bytes."""
    return max(_LEAST_BYTES, int(_SHARE * psutil.virtual_memory().total))


def free_bytes(root: Path = _HERE) -> int:
    """Return the available memory and free swap, bytes.

    Swap on zram is not counted: it is in the same memory, and JetPack's default size is half of all
    memory.
    """
    swaps = [line.split() for line in text_of(root / "proc" / "swaps").splitlines()[1:]]
    swap_kib = sum(
        int(size) - int(used) for name, _, size, used, *_ in swaps if "/zram" not in name
    )
    return available_bytes(root) + (swap_kib << 10)


def scratch_mb(reserve_bytes: int, root: Path = _HERE) -> int:
    """Return the scratch memory for a builder on a GPU that shares the memory, MiB.

    It is half of the free memory beyond the reserve, since graph, weights and engine need memory too.
    """
    return max(_LEAST_SCRATCH_MB, (available_bytes(root) - reserve_bytes) >> 21)


def available_bytes(root: Path = _HERE) -> int:
    """Return the memory available without swapping, file caches included, bytes."""
    found = re.search(r"^MemAvailable: +(\d+) kB", text_of(root / "proc" / "meminfo"), re.MULTILINE)
    return int(found.group(1)) << 10 if found else int(psutil.virtual_memory().available)


class JobMemory:
    """Watches the memory of one child process.

    Args:
        pid: Of the child.
        spec: Of its job, for the error.
        reserve_bytes: Memory and swap that must stay free.

    Attributes:
        peak_mb: Largest resident size so far, MB, as counted by the kernel.
    """

    def __init__(self, pid: int, spec: JobSpec[Any], reserve_bytes: int) -> None:
        self._status = Path("/proc", str(pid), "status")
        self._spec = spec
        self._reserve_bytes = reserve_bytes
        self._due_s = 0.0
        self.peak_mb = 0.0

    def watch(self) -> None:
        """Check the memory, at most four times a second.

        Raises:
            JobError: "no_memory" if less than the reserve is left.
        """
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + _EVERY_S
        with contextlib.suppress(ValueError):
            for line in text_of(self._status).splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_mb = int(line.split()[1]) * 1024 / 1e6  # "kB" there are KiB
        left = free_bytes()
        if left < self._reserve_bytes:
            raise JobError(
                f"{self._spec.kind}: ended at {self.peak_mb:.0f} MB resident, since {left / 1e6:.0f} MB "
                f"of memory were left ({self._reserve_bytes / 1e6:.0f} MB stay free for others)",
                code="no_memory",
                hint=self._spec.memory_hint,
            )
