"""Keys, signed commands and following them, from the command line."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.cli import main
from agent.core.control.command import Stage
from agent.wire import messages as wire
from agent.wire.issuing import read_tokens
from agent.wire.topics import Topics
from tests.support.broker import Broker, any_broker
from tests.support.fleet import DaemonProcess
from tests.support.polling import until
from tests.support.scene import write_config

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def quantd(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def key(tmp_path: Path, quantd: Run) -> Path:
    assert quantd("keygen", "ops", "--output", tmp_path)[0] == 0
    return tmp_path / "ops.key"


def test_a_key_pair_is_made_and_where_it_belongs_is_printed(tmp_path: Path, quantd: Run) -> None:
    code, out, _ = quantd("keygen", "ops", "--output", tmp_path, "--json")
    assert code == 0
    assert json.loads(out) == {
        "kid": "ops",
        "private": f"{tmp_path}/ops.key",
        "public": f"{tmp_path}/ops.pem",
    }
    assert quantd("keygen", "ops", "--output", tmp_path)[0] == 2


def test_one_signed_command_a_line_for_devices_named_and_listed(
    tmp_path: Path, key: Path, quantd: Run
) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("# north\ncam-2\n\ncam-3  # at the gate\ncam-1\n")
    arguments = ("--arg", "limits.latency_p99_ms=20", "--arg", "reason=007", "--expect", "r1")
    code, out, _ = quantd(
        "sign", "reoptimize", "cam-1", "--devices", listed, "--key", key, "--id", "r7", *arguments
    )
    assert code == 0
    commands = read_tokens(out.encode())
    assert [one.device for one in commands] == ["cam-1", "cam-2", "cam-3"]
    assert {(one.id, one.type) for one in commands} == {("r7", "reoptimize")}
    assert abs(commands[0].exp_s - time.time() - 3600) < 60


def test_ids_are_read_from_standard_input(
    key: Path, quantd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"cam-9\n")))
    code, out, _ = quantd("sign", "ping", "--devices", "-", "--key", key)
    assert (code, [one.device for one in read_tokens(out.encode())]) == (0, ["cam-9"])


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("ping",), "no device"),
        (("ping", "a/b"), "can't be a device's id"),
        ((), "no command"),
        (("pong", "cam-1"), "no command pong"),
        (("ping", "cam-1", "--arg", "x"), "NAME=VALUE"),
        (("reoptimize", "cam-1", "--arg", "limits=1", "--arg", "limits.fps=1"), "a value already"),
        (("activate", "cam-1"), "release"),
        (("activate", "cam-1", "--arg", "release=r1", "--id", "a b"), "command's id"),
        (("ping", "cam-1", "--devices", "/nowhere"), "No such file"),
    ],
)
def test_what_can_not_be_signed_is_an_error_with_the_reason(
    key: Path, quantd: Run, arguments: tuple[str, ...], seen: str
) -> None:
    code, out, err = quantd("sign", *arguments, "--key", key)
    assert (code, out) == (2, "")
    assert seen in err


def test_a_broker_that_is_not_there_is_an_error(tmp_path: Path, key: Path, quantd: Run) -> None:
    kept = tmp_path / "c.jws"
    sent = ("send", "ping", "cam-1", "--key", key, "--output", kept, "--broker")
    code, _, err = quantd(*sent, "127.0.0.1:1")
    assert code == 1
    assert "broker 127.0.0.1:1" in err
    assert kept.exists()
    assert quantd(*sent, "127.0.0.1:x")[0] == 2
    assert quantd(*sent, "127.0.0.1:70000")[0] == 2


class Devices:
    """Devices that answer each command with a course of stages, the newest first."""

    def __init__(self, broker: Broker, *names: str, code: str = "", ignored: int = 0) -> None:
        self.arrived: list[tuple[str, bytes]] = []
        self._code, self._ignored = code, ignored
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"quantd/v1/{name}/cmd/#", 1) for name in names]
        )
        self._client.on_message = self._answer
        self._client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self.ready = False
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        until(lambda: self.ready)

    def __enter__(self) -> Devices:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _answer(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.arrived.append((message.topic, message.payload))
        if len(self.arrived) <= self._ignored:
            return
        _, _, device, _, command_id = message.topic.split("/")
        last = Stage.FAILED if self._code else Stage.SUCCEEDED
        stages = [(3, last), (1, Stage.ACCEPTED), (2, Stage.IN_PROGRESS), (3, last)]
        for hostile in (b"{", b"\xff", wire.encode(answer("other", command_id, 9, Stage.FAILED))):
            client.publish(Topics("quantd", device).result(command_id), hostile, qos=1)
        for version, stage in stages:
            body = answer(device, command_id, version, stage, self._code)
            client.publish(Topics("quantd", device).result(command_id), wire.encode(body), qos=1)


def answer(device: str, command_id: str, version: int, stage: Stage, code: str = "") -> wire.Result:
    stamp: dict[str, Any] = {
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "dev": device, "ts": "2026-11-23T10:00:00.000Z",
        "mono_ms": 12, "boot": "b", "sess": 3, "seq": version, "clock_ok": True,
    }  # fmt: skip
    reason = wire.Reason(code=code) if code else None
    return wire.Result(**stamp, cmd_id=command_id, stage=stage, version=version, reason=reason)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with any_broker(tmp_path) as found:
        yield found


@pytest.mark.slow
def test_commands_are_followed_to_their_end_and_sent_again_unchanged(
    tmp_path: Path, key: Path, quantd: Run, broker: Broker
) -> None:
    kept = tmp_path / "c.jws"
    to = ("--broker", f"{broker.host}:{broker.port}", "--json")
    names = [f"cam-{n}" for n in range(30)]
    with Devices(broker, *names) as devices:
        code, out, err = quantd("send", "ping", *names, "--key", key, "--output", kept, *to)
        assert code == 0, err
        assert {(one["device"], one["stage"], one["version"]) for one in json.loads(out)} == {
            (name, "SUCCEEDED", 3) for name in names
        }
        first = dict(devices.arrived)
        assert quantd("send", "--signed", kept, *to)[0] == 0
        assert dict(devices.arrived[-len(names) :]) == first
        assert sorted(first.values()) == sorted(kept.read_bytes().split())
    assert quantd("send", "ping", "--signed", kept, *to)[0] == 2


@pytest.mark.slow
def test_a_broker_that_forgot_everything_is_sent_the_same_bytes_again(
    tmp_path: Path, key: Path, quantd: Run, broker: Broker
) -> None:
    with Devices(broker, "cam-1", ignored=1) as devices:

        def lose_all() -> None:
            until(lambda: len(devices.arrived) == 1)
            broker.kill()
            devices.ready = False
            broker.start()

        losing = threading.Thread(target=lose_all)
        losing.start()
        code, _, err = quantd(
            "send", "ping", "cam-1", "--key", key, "--output", tmp_path / "c.jws",
            "--broker", f"{broker.host}:{broker.port}",
        )  # fmt: skip
        losing.join()
        assert code == 0, err
        assert len(set(devices.arrived)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("code", "expected"), [("infeasible", 3), ("build", 1)])
def test_the_exit_code_is_that_of_the_command(
    tmp_path: Path, key: Path, quantd: Run, broker: Broker, code: str, expected: int
) -> None:
    with Devices(broker, "cam-1", code=code):
        found, _, err = quantd(
            "send", "reoptimize", "cam-1", "--key", key, "--output", tmp_path / "c.jws",
            "--broker", f"{broker.host}:{broker.port}",
        )  # fmt: skip
    assert found == expected
    assert "FAILED" in err
    assert code in err


@pytest.mark.slow
def test_a_device_that_never_subscribed_is_unreachable_at_once(
    tmp_path: Path, key: Path, quantd: Run, broker: Broker
) -> None:
    code, out, _ = quantd(
        "send", "ping", "cam-1", "--key", key, "--output", tmp_path / "c.jws", "--valid-s", 1,
        "--broker", f"{broker.host}:{broker.port}", "--json",
    )  # fmt: skip
    assert code == 1
    assert json.loads(out)[0]["trouble"]


@pytest.mark.slow
def test_a_daemon_takes_what_an_operator_signed(
    tmp_path: Path, key: Path, quantd: Run, broker: Broker
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "ops.pem").write_bytes((tmp_path / "ops.pem").read_bytes())
    config = write_config(
        tmp_path,
        mqtt={"host": broker.host, "port": broker.port},
        commands={"keys_dir": str(keys)},
    )
    to = ("--key", key, "--output", tmp_path / "c.jws", "--json")
    at = ("--broker", f"{broker.host}:{broker.port}")
    with DaemonProcess(config) as daemon:
        daemon.until_logged("broker_connected")
        code, out, err = quantd("send", "ping", "cam-1", *to, *at)
        assert code == 0, err
        assert msgspec.json.decode(out)[0]["detail"] == "idle, online"
        (keys / "ops.pem").unlink()
        code, out, _ = quantd("send", "ping", "cam-1", *to, *at)
        assert (code, msgspec.json.decode(out)[0]["code"]) == (1, "bad_signature")
