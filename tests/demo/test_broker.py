from __future__ import annotations

import importlib.util
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt import publish, subscribe

from agent.core.errors import LinkError
from agent.demo import broker
from tests.support.parts import missing_part

pytestmark = pytest.mark.slow


def without_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.shutil, "which", lambda *_, **__: None)


@pytest.mark.parametrize("kind", ["mosquitto", "rumqttd (iotcore)"])
def test_the_demo_s_broker_keeps_a_retained_state(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "mosquitto":
        if broker.find_mosquitto() is None:
            missing_part("mosquitto", "apt install mosquitto")
    else:
        if importlib.util.find_spec("iotcore") is None:
            missing_part("iotcore", "pip install quantd[demo]")
        without_mosquitto(monkeypatch)
    with broker.start_broker(tmp_path / "b") as found:
        assert found.kind == kind
        where = {"hostname": found.host, "port": found.port, "protocol": mqtt.MQTTv5}
        publish.single("q/v1/d/state", b"online", qos=1, retain=True, **where)
        got = subscribe.simple("q/v1/d/#", qos=1, **where)
    assert (got.payload, bool(got.retain)) == (b"online", True)


def test_without_any_broker_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_mosquitto(monkeypatch)
    monkeypatch.setitem(__import__("sys").modules, "iotcore", None)
    with pytest.raises(LinkError, match="no MQTT broker") as caught, broker.start_broker(tmp_path):
        raise AssertionError
    assert caught.value.code == "no_broker"
