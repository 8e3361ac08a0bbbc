"""10,000 devices at one telemetry a minute: what the process needs of a core and of memory."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import psutil

from agent.fleet.mqtt import Broker, Connection, Session, connect
from tests.benchmarks.fleet.messages import telemetry
from tests.benchmarks.rows import Row
from tests.support.broker import Mosquitto
from tests.support.fleet_traffic import WorkerProcess
from tests.support.polling import until

_DEVICES = 10_000
_PER_S = _DEVICES / 60
_MOST_SHARE, _MOST_MB = 0.05, 100
_SETTLE_S = 5


def rows(duration_s: float) -> list[Row]:
    """Run a worker on SQLite beside mosquitto, with all devices known to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Mosquitto(folder, "max_queued_messages 100000") as broker:
            worker = WorkerProcess(broker.port, str(folder / "fleet.db"), "w1", folder).start()
            until(worker.connections, why=worker.text)
            try:
                share, rss_mb, rate = asyncio.run(
                    _measured(broker.port, psutil.Process(worker.pid), duration_s)
                )
            finally:
                worker.stop()
    detail: dict[str, object] = {"messages_per_s": round(rate, 1), "duration_s": duration_s}
    what = f"{_DEVICES:,} devices at one telemetry a minute"
    return [
        Row(
            what=f"{what}: share of one core",
            goal=f"under {_MOST_SHARE:.0%}",
            found=f"{share:.1%}",
            met=share < _MOST_SHARE,
            detail=detail,
        ),
        Row(
            what=f"{what}: memory of the process",
            goal=f"under {_MOST_MB} MB",
            found=f"{rss_mb:.0f} MB",
            met=rss_mb < _MOST_MB,
        ),
    ]


async def _measured(
    port: int, worker: psutil.Process, duration_s: float
) -> tuple[float, float, float]:
    """Return share of a core, MB and messages a second."""
    session = Session(client_id="devices", clean=True, expiry_s=0)
    connection = await connect(Broker(host="127.0.0.1", port=port), session, lambda _: None)
    for start in range(0, _DEVICES, 100):
        await asyncio.gather(*(_sent(connection, place, 1) for place in range(start, start + 100)))
    await asyncio.sleep(_SETTLE_S)
    cpu_s, begin_s, sent = sum(worker.cpu_times()[:2]), time.monotonic(), 0
    while (elapsed_s := time.monotonic() - begin_s) < duration_s:
        while sent < elapsed_s * _PER_S:
            await _sent(connection, sent % _DEVICES, 2 + sent // _DEVICES)
            sent += 1
        await asyncio.sleep(0.01)
    cpu_s = sum(worker.cpu_times()[:2]) - cpu_s
    connection.disconnect()
    return cpu_s / elapsed_s, worker.memory_info().rss / 1e6, sent / elapsed_s


async def _sent(connection: Connection, place: int, seq: int) -> None:
    device = f"cam-{place:05d}"
    await connection.publish(f"quantd/v1/{device}/telemetry", telemetry(device, seq))
