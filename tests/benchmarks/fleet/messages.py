"""Messages of many simulated devices, as a fleet sends them: mostly telemetry."""

from __future__ import annotations

import random
from collections import Counter

from agent.core.control.command import Stage
from agent.core.control.ulid import Ulids
from agent.fleet.consumer import now_ms
from agent.fleet.mqtt import Delivery
from agent.wire import messages as wire

_ULIDS = Ulids()
_FIGURES = {
    "rss_mb": 35.6, "cpu_percent": 0.4, "uptime_s": 123456, "memory_free_mb": 3012.5,
    "disk_free_mb": 40123.0, "temp_c": 51.5, "latency_p50_ms": 4.51, "latency_p99_ms": 6.2,
    "throughput_fps": 210.0, "power_w": 7.9, "energy_j": 0.03, "memory_mb": 310.0,
    "sqnr_db": 31.2, "agreement": 0.98, "int8_macs_fraction": 0.91,
}  # fmt: skip


def telemetry(device: str, seq: int) -> bytes:
    """Return one telemetry message of 15 figures."""
    return wire.encode(wire.Telemetry(**_stamp(device, seq), m=_FIGURES))


def mixed(count: int, devices: int, seed: int) -> list[Delivery]:
    """Return messages as the broker delivers them: 85 % telemetry, states, events, answers."""
    chance, numbers = random.Random(seed), Counter[tuple[str, str]]()
    made = []
    for place in range(count):
        device = f"cam-{place % devices:05d}"
        kind = chance.choices(("telemetry", "state", "event", "res/c-1"), (85, 7, 5, 3))[0]
        numbers[device, kind] += 1
        topic = f"quantd/v1/{device}/{kind}".encode()
        body = _body(kind, device, numbers[device, kind])
        made.append(Delivery(topic, body, retained=False, packet=place % 65_535 + 1))
    return made


def _body(kind: str, device: str, seq: int) -> bytes:
    if kind == "telemetry":
        return telemetry(device, seq)
    stamp = _stamp(device, seq)
    if kind == "state":
        active = wire.Active(release="r-1", model="faces", precision="int8")
        return wire.encode(wire.State(**stamp, status="online", agent="0.2.0", active=active))
    if kind == "event":
        facts = {"run_id": "run-1", "stage": "measure"}
        return wire.encode(wire.Event(**stamp, kind="stage_done", severity="info", facts=facts))
    return wire.encode(wire.Result(**stamp, cmd_id="c-1", stage=Stage.IN_PROGRESS, version=seq))


def _stamp(device: str, seq: int) -> dict[str, object]:
    return {
        "id": _ULIDS.next(now_ms()),
        "dev": device,
        "ts": "2026-11-28T12:00:00.000Z",
        "mono_ms": 5_123_456,
        "boot": "0b8a6f2e-6a0e-4f9f-8b8b-5a7d7b8d1c11",
        "sess": 3,
        "seq": seq,
        "clock_ok": True,
    }
