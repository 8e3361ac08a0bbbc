"""What storing a message costs the worker, in full batches."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from agent.fleet.consumer import BATCH, Ingest
from agent.fleet.intake import Intake
from agent.fleet.service import open_store
from tests.benchmarks.fleet.messages import mixed
from tests.benchmarks.rows import Row
from tests.support.postgres import Postgres

_DEVICES = 200
_GOALS = {"SQLite": 25_000, "PostgreSQL": 60_000}


def rows(count: int, seed: int) -> list[Row]:
    """Store messages in both databases, durable, and count CPU seconds of this process."""
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder), durable=True) as server:
        databases = {"SQLite": str(Path(folder, "fleet.db")), "PostgreSQL": server.address}
        return [_row(name, address, count, seed) for name, address in databases.items()]


def _row(name: str, database: str, count: int, seed: int) -> Row:
    messages = mixed(count + 4 * BATCH, _DEVICES, seed)
    batches = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]
    store = open_store(database)
    ingest = Ingest(store, Intake("quantd"))
    try:
        for batch in batches[:4]:
            ingest.store_batch(batch)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for batch in batches[4:]:
            ingest.store_batch(batch)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    finally:
        ingest.close()
        store.close()
    rate, goal = count / cpu_s, _GOALS[name]
    return Row(
        what=f"messages checked and stored per CPU second of the worker, {name}, batches of {BATCH}",
        goal=f"at least {goal:,}",
        found=f"{rate:,.0f}",
        met=rate >= goal,
        detail={
            "messages": count,
            "devices": _DEVICES,
            "per_wall_s": round(count / wall_s),
            "bytes_mean": round(sum(len(one.payload) for one in messages) / len(messages)),
            "quarantined": ingest.counted.quarantined,
        },
    )
