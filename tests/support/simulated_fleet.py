"""A fleet of simulated devices in a store, for pages: most are well, some need attention."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from functools import cache

from tests.core.report.test_golden import recorded
from tests.support.fleet_messages import (
    NOW_MS,
    event,
    inventory,
    known,
    received,
    refused,
    releases,
    report,
    result,
    state,
    telemetry,
)

NOW_S = NOW_MS / 1000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
_PRECISIONS = (("fp16", 6.9, 9.8), ("int8", 4.1, 7.6), ("int8-mixed", 4.6, 8.0))
_BOARDS = (("orin-nano", 1.0), ("orin-nx", 0.6), ("agx-orin", 0.35))


@cache
def _report_json() -> bytes:
    return json.dumps(asdict(replace(recorded("chosen")[0], device="A-DEVICE"))).encode()


def report_json(device: str) -> bytes:
    """Return a recorded report.json, with another device's name."""
    return _report_json().replace(b"A-DEVICE", device.encode())


def messages_of(name: str, number: int) -> list:
    """Return what a device sent: simulated, the same for the same number."""
    rng = random.Random(number)
    precision, p50, watts = _PRECISIONS[number % 3]
    board, factor = _BOARDS[rng.choice((0, 0, 0, 1, 2))]
    p50 = round(p50 * factor * rng.uniform(0.96, 1.06), 3)
    agreement = round(rng.uniform(0.962, 0.995), 4)
    release = "2026-11-20T10-00-00Z"
    seen = NOW_MS - rng.randrange(1_000, MINUTE_MS)
    figures = {
        "latency_p50_ms": p50, "latency_p99_ms": round(p50 * 1.3, 3), "throughput_fps": round(900 / p50, 1),
        "power_w": round(watts * rng.uniform(0.95, 1.05), 2), "energy_j": round(watts * p50 / 1000, 4),
        "sqnr_db": round(rng.uniform(21, 38), 1), "agreement": agreement,
        "int8_macs_fraction": 0.0 if precision == "fp16" else 0.93,
    }  # fmt: skip
    job = (
        '{"run_id":"run-9","kind":"optimize","stage":"measure","pct":40.0}'
        if number % 41 == 7
        else ""
    )
    live = dict(figures)
    if number % 97 == 11:
        live["latency_p50_ms"] = round(p50 * 1.6, 3)
    if number % 53 == 5:
        seen = NOW_MS - rng.randrange(10, 600) * MINUTE_MS
    sent = [
        received(inventory(board, "6.2" if number % 5 else "7.0", site=("north", "south", "harbour")[number % 3], simulated="yes"), name, at_ms=NOW_MS - DAY_MS, received_ms=NOW_MS - DAY_MS),
        received(report("faces", body=report_json(name), precision=precision, trouble="the build was killed: too little memory" if number % 71 == 3 else "", **figures), name, seq=1, at_ms=NOW_MS - 8 * DAY_MS, received_ms=NOW_MS - 8 * DAY_MS),
        received(releases("2026-11-25T10-00-00Z" if number % 89 == 20 else release), name, at_ms=NOW_MS - DAY_MS, received_ms=NOW_MS - DAY_MS),
        received(state(release=release, model="faces", precision=precision, job=job), name, at_ms=NOW_MS - DAY_MS, received_ms=NOW_MS - DAY_MS),
        received(telemetry(json.dumps({**live, "temp_c": round(rng.uniform(44, 71), 1), "memory_free_mb": 2100, "rss_mb": 36.2}), **live), name, at_ms=seen, received_ms=seen),
    ]  # fmt: skip
    if number % 53 == 5 and number % 2:
        sent.append(received(state("offline"), name, will=1, at_ms=seen, received_ms=seen))
    if number % 61 == 9:
        sent += [
            received(event(), name, seq=seq, at_ms=seen - 5 * MINUTE_MS, received_ms=seen - 5 * MINUTE_MS)
            for seq in (1, 4)
        ]  # fmt: skip
    return sent


def fill(store, count: int) -> list[str]:
    """Store what so many devices sent; return their names."""
    names = [f"cam-{number:04}" for number in range(count)]
    for first in range(0, count, 500):
        batch = [
            one
            for number in range(first, min(first + 500, count))
            for one in messages_of(names[number], number)
        ]
        store.write(batch, [])
    return names


def add_history(store, name: str = "cam-0001") -> None:
    """Give a device events, answers, older reports, telemetry of a day, something refused."""
    rng = random.Random(1)
    sent = [
        received(event(kind, severity), name, seq=seq, at_ms=NOW_MS - seq * 7 * MINUTE_MS)
        for seq, (kind, severity) in enumerate(
            [("run_started", "info"), ("engine_built", "info"), ("throttled", "warning"), ("run_finished", "info")],
            start=1,
        )
    ]  # fmt: skip
    sent += [
        received(result("c-7", stage, version), name, seq=version, at_ms=NOW_MS - DAY_MS + version)
        for version, stage in enumerate(("RECEIVED", "ACCEPTED", "IN_PROGRESS", "SUCCEEDED"), start=1)
    ]  # fmt: skip
    for days in (30, 22, 15):
        sent.append(
            received(report("faces", body=report_json(name), precision="int8", latency_p50_ms=4.1 + days / 50, energy_j=0.031, agreement=0.97, power_w=7.7), name, seq=40 - days, at_ms=NOW_MS - days * DAY_MS)
        )  # fmt: skip
    for minute in range(0, 24 * 60, 10):
        text = json.dumps({"temp_c": round(52 + 8 * rng.random(), 1), "cpu_percent": 0.4})
        sent.append(received(telemetry(text), name, at_ms=NOW_MS - DAY_MS + minute * MINUTE_MS))
    store.write(sent, [refused(name)])


__all__ = ["NOW_MS", "NOW_S", "add_history", "fill", "known", "messages_of", "report_json"]
