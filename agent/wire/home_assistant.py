"""MQTT discovery for Home Assistant: one retained message names the sensors of a device.

Source: home-assistant.io, "MQTT", Device discovery payload, and the pages of the sensor and event
platforms: keys, device classes with their units, object ids of `[a-zA-Z0-9_-]+`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from agent import __version__
from agent.core.report.metrics import METRICS, MODEL_METRICS, Metric
from agent.wire.topics import Topics

_STALE_S = 180  # three times the pace of telemetry
_FIGURES = (
    *MODEL_METRICS,
    *("job_percent", "temp_c", "memory_free_mb", "disk_free_mb", "runs_succeeded", "runs_failed"),
)
_CLASSES = {"ms": "duration", "W": "power", "MB": "data_size", "°C": "temperature"}
_EVENTS = (
    *(f"{kind}_{change}" for kind in ("optimize", "activate", "rollback") for change in ("started", "ended")),
    *("release_outdated", "release_unusable", "input_doubtful", "journal_works_again"),
)  # fmt: skip
_OTHER = "other"  # an event entity takes the types of its list only


def discovery_topic(device: str) -> str:
    """Return the topic of a device's discovery message."""
    return f"homeassistant/device/{_object_id(device)}/config"


def discovery(topics: Topics, model: str) -> bytes:
    """Return the discovery message of a device.

    Args:
        topics: Of the device; its messages are read as they are.
        model: The configured model's name.
    """
    own = _object_id(topics.device)
    components = {
        "job": _sensor("job", topics.state, "value_json.job.kind if value_json.job else 'idle'"),
        "release": _sensor(
            "release", topics.state, "value_json.active.release if value_json.active else None"
        ),
        "precision": _sensor(
            "precision", topics.state, "value_json.active.precision if value_json.active else None"
        ),
        **{name: _figure(name, METRICS[name], topics.telemetry) for name in _FIGURES},
        "event": _event(topics.event),
    }
    found = {
        "device": {
            "identifiers": [own],
            "name": topics.device,
            "manufacturer": "quantd",
            "model": model,
            "sw_version": __version__,
        },
        "origin": {"name": "quantd", "sw_version": __version__},
        "availability": [
            {
                "topic": topics.state,
                "value_template": "{{ 'online' if value_json.status == 'online' else 'offline' }}",
            }
        ],
        "components": {
            name: one | {"unique_id": f"{own}_{name}"} for name, one in components.items()
        },
    }
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def _object_id(device: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", device)
    mark = "" if plain == device else f"_{hashlib.sha256(device.encode()).hexdigest()[:6]}"
    return f"quantd_{plain}{mark}"


def _sensor(title: str, topic: str, value: str) -> dict[str, Any]:
    return {
        "platform": "sensor",
        "name": title,
        "state_topic": topic,
        "value_template": f"{{{{ {value} }}}}",  # None is shown as unknown
    }


def _figure(name: str, metric: Metric, topic: str) -> dict[str, Any]:
    found = {
        **_sensor(metric.title, topic, f"value_json.m.get('{name}')"),
        "state_class": "total_increasing" if metric.counts else "measurement",
        "expire_after": _STALE_S,
    }
    if metric.unit:
        found["unit_of_measurement"] = metric.unit
    if metric.unit in _CLASSES:
        found["device_class"] = _CLASSES[metric.unit]
    if name not in MODEL_METRICS:
        found["entity_category"] = "diagnostic"
    return found


def _event(topic: str) -> dict[str, Any]:
    kind = f"value_json.kind if value_json.kind in {list(_EVENTS)} else '{_OTHER}'"
    facts = (
        f"'event_type': {kind}, 'kind': value_json.kind, 'severity': value_json.severity, "
        "'detail': value_json.facts.get('detail', '')"
    )
    return {
        "platform": "event",
        "name": "event",
        "state_topic": topic,
        "event_types": [*_EVENTS, _OTHER],
        "value_template": f"{{{{ {{{facts}}} | to_json }}}}",
    }
