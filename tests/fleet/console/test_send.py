"""Commands: checked here, signed elsewhere, kept before they are sent, followed."""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from html import unescape

import pytest

from agent.cli import main
from agent.core.errors import ConfigError
from agent.fleet.console.accounts import Role
from agent.fleet.mqtt import Broker as Address
from agent.fleet.mqtt import Session, connect
from agent.fleet.sending import Sender
from agent.wire.issuing import read_tokens
from agent.wiring.operator import make_key, sign
from tests.support.broker import any_broker
from tests.support.fleet_messages import received, result
from tests.support.simulated_fleet import fill


@pytest.fixture
def operator(signed_in):
    return signed_in(Role.OPERATOR)


@pytest.fixture
def key(tmp_path):
    return make_key(tmp_path, "ops")[0]


def signed(key, *devices, command="c-1", kind="ping", **args):
    return sign(kind, devices, command, key=key, kid="ops", args=args, expect=None, valid_s=3600)


def text(commands) -> str:
    return "\n".join(one.token.decode() for one in commands)


@pytest.mark.parametrize(
    ("kind", "arg", "expect"),
    [
        ("ping", "", ""),
        ("reoptimize", "limits.latency_p99_ms=20\nreason=too slow; `rm`", "r-1"),
        ("activate", "release=20261123T101500123-3f9a", ""),
        ("resend", "from_seq=3\nstream=report", ""),
    ],
)
def test_the_composed_line_signs_what_the_console_takes(
    operator, key, tmp_path, monkeypatch, kind, arg, expect, woken
):
    form = {
        "devices": "cam-1, cam-2\ncam-1",
        "type": kind,
        "arg": arg,
        "expect": expect,
        "hours": "8",
    }
    page = operator.post("/send/compose", form)
    assert page.status == 200, page.text
    line = unescape(re.search(r"<code>(quantd sign .*?)</code>", page.text, re.DOTALL)[1])
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line)[1:]) == 0
    body = (tmp_path / "command.jws").read_text()
    answer = operator.post("/send/signed", {"signed": body})
    assert answer.status == 303, answer.text
    assert woken == [1]
    followed = operator.get(answer.headers["location"]).text
    assert f"{kind} for 2 devices" in followed
    assert followed.count("to be sent") >= 2


@pytest.mark.parametrize(
    ("form", "seen"),
    [
        ({"devices": "", "type": "ping"}, "no device"),
        ({"devices": "a/b", "type": "ping"}, "can&#39;t be a device&#39;s id"),
        ({"devices": "cam-1", "type": "explode"}, "no command explode"),
        ({"devices": "cam-1", "type": "activate"}, "release"),
        ({"devices": "cam-1", "type": "ping", "expect": "r-1"}, "only a command that changes something"),
        ({"devices": "cam-1", "type": "reoptimize", "arg": "limits.fps=-1"}, "fps"),
        ({"devices": "cam-1", "type": "reoptimize", "arg": "x"}, "NAME=VALUE"),
        ({"devices": "cam-1", "type": "reoptimize", "arg": "<script>=1"}, "&lt;script&gt;"),
    ],
)  # fmt: skip
def test_what_a_device_would_refuse_is_not_composed(operator, form, seen):
    page = operator.post("/send/compose", form)
    assert page.status == 400
    assert seen in page.text
    assert "quantd sign" not in page.text


@pytest.mark.parametrize("body", ["", "x", "a.b.c", "eyJ.eyJ.eyJ", "\x00", "[" * 9999])
def test_what_is_no_signed_file_is_refused_and_not_kept(operator, commands, body, woken):
    page = operator.post("/send/signed", {"signed": body})
    assert page.status == 400
    assert commands.listed() == []
    assert woken == []


def test_signed_bytes_are_kept_as_they_came_and_other_bytes_of_the_id_refused(
    operator, commands, key
):
    first = signed(key, "cam-1", "cam-2")
    assert operator.post("/send/signed", {"signed": text(first)}).status == 303
    kept = {(one[1], one[2]) for one in commands.waiting()}
    assert kept == {(one.device, one.token) for one in first}
    commands.mark([("c-1", "cam-1", "sent"), ("c-1", "cam-2", "sent")])
    assert operator.post("/send/signed", {"signed": text(first)}).status == 303
    assert len(commands.waiting()) == 2  # the same bytes once more
    other = signed(key, "cam-1", "cam-3", kind="cancel")
    page = operator.post("/send/signed", {"signed": text(other)})
    assert page.status == 400
    assert "other bytes" in page.text
    assert {one[1] for one in commands.waiting()} == {"cam-1", "cam-2"}


def test_the_last_answer_of_each_device_is_followed(operator, store, commands, key):
    names = fill(store, 4)
    operator.post("/send/signed", {"signed": text(signed(key, *names))})
    commands.mark([("c-1", one, "sent") for one in names[:3]])
    store.write(
        [
            received(result("c-1", "IN_PROGRESS", 3), names[0]),
            received(result("c-1", "SUCCEEDED", 4), names[1]),
            received(result("c-1", "REJECTED", 1, "busy", "<b>another run"), names[2]),
        ],
        [],
    )
    page = operator.get("/commands/c-1").text
    assert "Ended on 2 of 4" in page
    assert "Published to 3 of 4" in page
    assert "busy: &lt;b&gt;another run" in page
    commands.mark([("c-1", names[3], "the broker refused it (reason 0x87)")])
    assert operator.post("/commands/c-1/again").status == 303
    assert {one[1] for one in commands.waiting()} == {names[0], names[3]}
    assert operator.get("/commands/none").status == 404
    actions = [(one.action, one.subject) for one in operator_log(operator)]
    assert actions[0] == ("sent a command again", "c-1")


def operator_log(visitor):
    page = visitor.get("/audit").text
    rows = re.findall(
        r"<tr><td><time[^>]*>[^<]*</time></td><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", page
    )
    return [type("Row", (), {"user": u, "action": a, "subject": s}) for u, a, s in rows]


def test_many_devices_come_as_a_file(operator):
    form = {"devices": " ".join(f"cam-{n}" for n in range(30)), "type": "ping"}
    page = operator.post("/send/compose", form).text
    assert "--devices devices.txt" in page
    assert "cam-29" in page


def test_old_commands_are_removed_with_their_bytes(commands, key, clock):
    commands.keep(signed(key, "cam-1"), "kim")
    clock.now += 91 * 86_400
    commands.keep(signed(key, "cam-1", command="c-2"), "kim")
    assert [one.id for one in commands.listed()] == ["c-2"]
    assert commands.devices("c-1") == []


# Sending --------------------------------------------------------------------------------------


class Received:
    def __init__(self) -> None:
        self.found: list[tuple[str, bytes]] = []

    def __call__(self, delivery) -> None:
        self.found.append((delivery.topic.decode(), delivery.payload))


async def _sent(port, commands, expected, stop_after=None):
    """Run a sender until a listener has seen so many messages; return them."""
    address, heard = Address(host="127.0.0.1", port=port), Received()
    session = Session(client_id="listener", clean=True, expiry_s=0)
    listener = await connect(address, session, heard)
    await listener.subscribe(["quantd/v1/+/cmd/+"])
    sender = Sender(address, "quantd", commands)
    task = asyncio.create_task(sender.run())
    try:
        deadline = time.monotonic() + 60
        while len(heard.found) < expected or commands.waiting():
            assert time.monotonic() < deadline, len(heard.found)
            if stop_after is not None and len(heard.found) >= stop_after:
                break
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.disconnect()
    return heard.found


@pytest.mark.slow
def test_every_kept_command_reaches_the_broker_unchanged_over_a_stop(tmp_path, commands, key):
    names = [f"cam-{number}" for number in range(900)]
    made = signed(key, *names)
    commands.keep(made, "kim")
    with any_broker(tmp_path) as running:
        found = asyncio.run(_sent(running.port, commands, 900, stop_after=300))
        found += asyncio.run(_sent(running.port, commands, len(commands.waiting())))
    expected = {(f"quantd/v1/{one.device}/cmd/c-1", one.token) for one in made}
    assert set(found) == expected
    assert read_tokens(b"\n".join(body for _, body in found[:1]))[0].id == "c-1"


@pytest.mark.slow
def test_a_command_that_has_expired_is_not_sent(tmp_path, commands, key):
    late = sign("ping", ["cam-1"], "c-9", key=key, kid="ops", args={}, expect=None, valid_s=-5)
    commands.keep(late, "kim")
    with any_broker(tmp_path) as running:
        assert asyncio.run(_sent(running.port, commands, 0)) == []
    assert commands.devices("c-9") == [("cam-1", "expired")]


def test_a_conflict_keeps_nothing(commands, key):
    commands.keep(signed(key, "cam-1"), "kim")
    with pytest.raises(ConfigError, match="other bytes"):
        commands.keep([*signed(key, "cam-0"), *signed(key, "cam-1", kind="cancel")], "kim")
    assert commands.devices("c-1") == [("cam-1", "waiting")]
