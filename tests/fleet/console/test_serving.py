"""Where the console listens, and the whole process beside a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import pytest

from agent.core.errors import ConfigError
from agent.fleet.console.serving import listening_at
from agent.fleet.mqtt import Broker as Address
from agent.fleet.mqtt import Session, connect
from agent.wire.messages import Active, State, encode
from tests.support.broker import any_broker, free_port

PASSWORD = "correct horse battery"


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "fleet.example:80"])
def test_passwords_never_cross_a_network_in_the_clear(address):
    with pytest.raises(ConfigError, match="in the clear") as raised:
        listening_at(address)
    assert "--behind-proxy" in raised.value.hint
    assert listening_at(address, behind_proxy=True).serving.secure
    assert listening_at(address, cert="c.pem", key="k.pem").url.startswith("https://")


@pytest.mark.parametrize(
    "address", ["8765", ":8765", "127.0.0.1:8765", "[::1]:8765", "localhost:8765"]
)
def test_this_machine_needs_no_tls(address):
    found = listening_at(address)
    assert found.port == 8765
    assert not found.serving.secure
    assert found.serving.proxies == ()


@pytest.mark.parametrize(
    "address", ["", "x", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:٣"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="is no address"):
        listening_at(address)


def test_a_header_with_the_user_is_only_taken_behind_a_proxy():
    with pytest.raises(ConfigError, match="--behind-proxy"):
        listening_at("8765", user_header="X-User")
    found = listening_at("8765", user_header="X-User", behind_proxy=True).serving
    assert (found.user_header, found.proxies) == ("x-user", ("127.0.0.1", "::1"))
    with pytest.raises(ConfigError, match="need each other"):
        listening_at("8765", cert="c.pem")


@contextlib.contextmanager
def fleet(folder, *options):
    """Run `quantd fleet`; yield the process and the lines that it wrote first."""
    command = [sys.executable, "-m", "agent", "fleet", *options]
    with (
        (folder / "fleet.log").open("w+") as log,
        subprocess.Popen(command, stderr=log, stdout=log) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while "console: " not in (text := (folder / "fleet.log").read_text()):
                assert process.poll() is None, text
                assert time.monotonic() < deadline, text
                time.sleep(0.05)
            yield process, text
        finally:
            process.kill()


def online(name: str) -> bytes:
    active = Active(release="r-1", model="faces", precision="int8")
    return encode(
        State(
            id="01KB5B2T5V8WJ5G1Q2N6VWX3YZ", dev=name, ts="2026-11-28T12:00:00.000Z", mono_ms=1, boot="b",
            sess=1, seq=1, clock_ok=True, status="online", agent="0.2.0", active=active,
        )
    )  # fmt: skip


async def publish(port: int, topic: str, body: bytes) -> None:
    address = Address(host="127.0.0.1", port=port)
    connection = await connect(address, Session(client_id="cam-1", clean=True, expiry_s=0), print)
    await connection.publish(topic, body)
    connection.disconnect()


def eventually(ask):
    deadline = time.monotonic() + 60
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_a_device_that_speaks_to_a_real_broker_is_seen_by_the_first_operator(tmp_path):
    with any_broker(tmp_path) as running:
        at = free_port()
        options = [
            "--broker",
            f"127.0.0.1:{running.port}",
            "--listen",
            str(at),
            "--database",
            str(tmp_path / "fleet.db"),
        ]
        with fleet(tmp_path, *options) as (process, text):
            link = re.search(r"http://\S+/link/\S+", text)[0]
            own = {"Origin": f"http://127.0.0.1:{at}", "Accept": "text/html"}
            visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            form = urlencode({"password": PASSWORD, "again": PASSWORD}).encode()
            page = visitor.open(urllib.request.Request(link, form, own)).read().decode()
            assert "No device was heard yet" in page
            asyncio.run(publish(running.port, "quantd/v1/cam-1/state", online("cam-1")))

            def seen():
                page = visitor.open(urllib.request.Request(f"http://127.0.0.1:{at}/", headers=own))
                return 'id="d-cam-1"' in page.read().decode()

            eventually(seen)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (tmp_path / "fleet.log").read_text()
        listed = subprocess.run(
            [sys.executable, "-m", "agent", "fleet", "devices", "--database", str(tmp_path / "fleet.db"), "--json"],
            check=True, capture_output=True,
        )  # fmt: skip
        assert [one["name"] for one in json.loads(listed.stdout)] == ["cam-1"]
        with fleet(tmp_path, *options) as (process, text):
            assert "/link/" not in text
            again = subprocess.run(
                [sys.executable, "-m", "agent", "fleet", *options], capture_output=True, timeout=60
            )
            assert again.returncode == 2
            assert b"choose another address with --listen" in again.stderr


def test_without_its_libraries_the_verb_names_the_command_that_installs_them(monkeypatch, capsys):
    from agent.cli import main

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "agent.fleet.console.serving")
    assert main(["fleet"]) == 2
    assert "pip install" in capsys.readouterr().err
