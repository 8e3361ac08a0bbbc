"""Messages of simulated devices, as the fleet's store takes them."""

from __future__ import annotations

import zlib
from collections import defaultdict

from agent.core.control.ulid import Ulids, ulid_bytes
from agent.core.fleet.messages import (
    FIGURES,
    Event,
    Inventory,
    Quarantined,
    Received,
    Releases,
    Report,
    Result,
    State,
    Telemetry,
)

NOW_MS = 1_795_900_000_000
HOUR_MS = 3_600_000
_IDS = defaultdict(Ulids)  # a source never goes back


def message_id(at_ms=NOW_MS):
    return ulid_bytes(_IDS[at_ms].next(at_ms))


def known(**figures):
    assert set(figures) <= set(FIGURES)
    return tuple(figures.get(name) for name in FIGURES)


def received(
    body, device="cam-1", *, seq=1, sess=1, will=0, at_ms=NOW_MS, received_ms=None, same_id=None
):
    return Received(
        device=device,
        id=same_id or message_id(at_ms),
        order=(sess, will, seq),
        at_ms=at_ms,
        received_ms=at_ms if received_ms is None else received_ms,
        body=body,
    )


def state(status="online", release="", model="", precision="", job="", agent="0.2.0"):
    return State(status, agent, release, model, precision, job, 0, 0)


def inventory(board="orin-nano", jetpack="6.2", **labels):
    return Inventory(board, jetpack, tuple(labels.items()), '{"cpus":6}', '["faces"]', '["ping"]')


def releases(newest="r-2", pinned=False):
    return Releases('[{"id":"r-2"}]', newest, pinned)


def telemetry(text='{"temp_c":51.5}', **figures):
    assert set(figures) <= set(FIGURES)
    return Telemetry(text, figures)


def event(kind="run_started", severity="info"):
    return Event(kind, severity, "{}")


def result(command="c-1", stage="SUCCEEDED", version=1, code="", detail=""):
    return Result(command, stage, version, "", None, code, detail, "")


def report(model="faces", trouble="", body=b'{"schema": 1}', precision="int8", **figures):
    return Report(
        model=model,
        model_sha256="ab" * 32,
        run="run-1",
        precision=precision,
        runtime="tensorrt",
        candidate="int8-entropy",
        release="r-1",
        activation="activated",
        headline="2.1 times faster",
        known=known(**figures),
        trouble=trouble,
        size=len(body),
        body=zlib.compress(body),
    )


def refused(device="cam-1", why="NUL", received_ms=NOW_MS, head=b"{"):
    topic = f"quantd/v1/{device}/event"
    return Quarantined(device, topic, "cd" * 32, head, len(head), why, received_ms)
