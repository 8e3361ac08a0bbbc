"""What the idle daemon costs: resident memory and processor time, connected and publishing.

    python -m tests.benchmarks.bench_daemon [SECONDS]

prints one JSON object. The daemon (`quantd run`, as the service manager starts it) talks to a
real broker on this machine; it is measured after it came online, and again after it has
verified and answered its first signed command, which loads libsodium for good.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from agent.demo.broker import start_broker
from agent.demo.operator import Operator, trusted_key
from tests.support.fleet import DaemonProcess
from tests.support.scene import write_config

_DEVICE = "cam-1"
_SETTLE_S = 3.0
_SECONDS = 60.0


def idle(process: psutil.Process, seconds: float) -> dict[str, float]:
    """Watch a process do nothing: MB resident and own (USS), and percent of one core."""
    time.sleep(_SETTLE_S)
    before_ns = _ran_ns(process)
    time.sleep(seconds)
    spent_s = (_ran_ns(process) - before_ns) / 1e9
    memory = process.memory_full_info()
    return {
        "rss_mb": round(memory.rss / 1e6, 1),
        "uss_mb": round(memory.uss / 1e6, 1),
        "cpu_percent": round(100 * spent_s / seconds, 3),
        "children": len(process.children(recursive=True)),
    }


def _ran_ns(process: psutil.Process) -> int:
    """Return the processor time of its threads, ns; `cpu_times` counts in steps of 10 ms.

    Source: Documentation/scheduler/sched-stats.rst of the kernel, /proc/<pid>/schedstat.
    """
    found = Path("/proc", str(process.pid), "task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in found)


def measured(directory: Path, seconds: float) -> dict[str, object]:
    """Start a broker and the daemon; measure before and after the first signed command."""
    with start_broker(directory / "broker") as broker:
        key = trusted_key(directory / "keys")
        config = write_config(
            directory,
            mqtt={"host": broker.host, "port": broker.port},
            commands={"keys_dir": str(directory / "keys")},
        )
        topic = f"quantd/v1/{_DEVICE}"
        with (
            DaemonProcess(config) as daemon,
            Operator(broker.host, broker.port, topic, key) as operator,
        ):
            assert daemon.process is not None
            process = psutil.Process(daemon.process.pid)
            operator.wait_online(30, lambda: None)
            online = idle(process, seconds)
            command = operator.command("ping", {})
            *_, (_, answer) = operator.follow(command, 30, lambda: None)
            assert answer["stage"] == "SUCCEEDED", answer
            return {
                "broker": broker.kind,
                "seconds": seconds,
                "online": online,
                "after_signed_command": idle(process, seconds),
            }


def main(arguments: list[str]) -> None:
    """Print the figures of one daemon."""
    seconds = float(arguments[0]) if arguments else _SECONDS
    with tempfile.TemporaryDirectory() as directory:
        result = measured(Path(directory), seconds)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
