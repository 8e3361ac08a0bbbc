"""The discovery message, by the documented keys and by rendering its templates as they are rendered."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
import pytest

from agent.core.report.metrics import METRICS
from agent.wire import messages as wire
from agent.wire.home_assistant import _EVENTS, discovery, discovery_topic
from agent.wire.topics import Topics
from tests.wire.test_messages import STAMP

TOPICS = Topics("quantd", "cam-1")
# home-assistant.io, Sensor: units that a device class allows.
UNITS = {
    "duration": {"ms", "s", "min", "h", "d"},
    "power": {"mW", "W", "kW"},
    "data_size": {"kB", "MB", "GB", "KiB", "MiB"},
    "temperature": {"°C", "°F", "K"},
}
JINJA = jinja2.Environment(autoescape=False)
JINJA.filters["to_json"] = json.dumps


@pytest.fixture
def found() -> dict[str, Any]:
    return json.loads(discovery(TOPICS, "faces"))


def rendered(template: str, message: wire.Message) -> str:
    value = json.loads(wire.encode(message))
    return JINJA.from_string(template).render(value_json=value)


def test_it_has_the_documented_keys(found: dict[str, Any]) -> None:
    assert found["device"]["identifiers"] == ["quantd_cam-1"]
    assert found["origin"]["name"]
    assert set(found) == {"device", "origin", "availability", "components"}
    components = found["components"]
    assert len({one["unique_id"] for one in components.values()}) == len(components)
    for one in components.values():
        assert one["platform"] in {"sensor", "event"}
        assert one["state_topic"] in {TOPICS.state, TOPICS.telemetry, TOPICS.event}
        if "device_class" in one:
            assert one["unit_of_measurement"] in UNITS[one["device_class"]]
    assert len(discovery(TOPICS, "faces")) < 16_000


def test_the_sensors_take_their_values_from_the_messages(found: dict[str, Any]) -> None:
    components = found["components"]
    telemetry = wire.Telemetry(**STAMP, m={"latency_p50_ms": 4.25, "power_w": None})
    for name, value in (("latency_p50_ms", "4.25"), ("power_w", "None"), ("energy_j", "None")):
        assert rendered(components[name]["value_template"], telemetry) == value
        assert name in METRICS
    state = wire.State(
        **STAMP,
        status="online",
        agent="0",
        active=wire.Active(release="r1", precision="int8"),
        job=wire.Job(run_id="r", kind="optimize"),
    )
    names = ("release", "precision", "job")
    assert [rendered(components[one]["value_template"], state) for one in names] == [
        "r1", "int8", "optimize",
    ]  # fmt: skip
    will = wire.State(**STAMP, status="offline", agent="0", will=True)
    assert [rendered(components[one]["value_template"], will) for one in names] == [
        "None", "None", "idle",
    ]  # fmt: skip
    available = found["availability"][0]["value_template"]
    shutdown = wire.State(**STAMP, status="shutdown", agent="0")
    assert [rendered(available, one) for one in (state, will, shutdown)] == [
        "online", "offline", "offline",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["optimize_ended", "message_parked"])
def test_an_event_has_a_type_of_the_list(found: dict[str, Any], kind: str) -> None:
    event = found["components"]["event"]
    message = wire.Event(
        **STAMP, kind=kind, severity="warning", facts={"detail": 'it said "no"\n{{ 1 }}'}
    )
    value = json.loads(rendered(event["value_template"], message))
    assert value["event_type"] == (kind if kind in _EVENTS else "other")
    assert value["event_type"] in event["event_types"]
    assert (value["kind"], value["detail"]) == (kind, 'it said "no"\n{{ 1 }}')


def test_two_devices_never_share_a_topic() -> None:
    topics = [discovery_topic(one) for one in ("a.b", "a_b", "a-b")]
    assert len(set(topics)) == 3
    for topic in topics:
        assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
