"""Commands: composed and checked here, signed where the key is, taken back signed, followed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from agent.core.control.command import Stage, is_command_id
from agent.core.control.ulid import Ulids
from agent.core.errors import ConfigError
from agent.core.fleet.devices import ResultRow
from agent.fleet.console.access import Asked
from agent.fleet.console.accounts import Role
from agent.fleet.console.commands import Sent
from agent.fleet.console.live import Parts, stream
from agent.fleet.console.paging import ROWS, page_number
from agent.fleet.console.routing import Console, Route, message
from agent.wire.commands import ARGS, COMMANDS
from agent.wire.issuing import arguments, compose, read_tokens

_MOST_DEVICES = 50_000
_ON_ONE_LINE = 20  # ids; more are put into a file
_FINAL = {one.value for one in Stage if one.final}
HOURS = {"1": 3600, "8": 8 * 3600, "24": 24 * 3600}
_FIELDS = {
    kind: [name for name in ARGS[request].__struct_fields__ if name != "limits"]
    for kind, request in COMMANDS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A checked command, as the lines to run where the key is.

    Attributes:
        devices: The ids, for a file where there are many.
    """

    sign: str
    send: str
    devices: tuple[str, ...]
    many: bool


def _send(
    console: Console,
    asked: Asked,
    status: int = 200,
    *,
    error: str = "",
    taken_error: str = "",
    composed: Composed | None = None,
) -> Response:
    given = {**asked.query, **asked.form}
    return console.rendering.html(
        asked,
        "send.html.j2",
        status,
        kinds=tuple(COMMANDS),
        fields=_FIELDS,
        given={
            "type": given.get("type", "reoptimize"),
            "devices": given.get("devices", given.get("device", "")),
            "arg": given.get("arg", f"release={given['release']}" if "release" in given else ""),
            "expect": given.get("expect", ""),
            "hours": given.get("hours", "1"),
        },
        hours=tuple(HOURS),
        error=error,
        taken_error=taken_error,
        composed=composed,
        commands=console.commands.listed(count=10),
    )


def _compose(console: Console, asked: Asked) -> Response:
    try:
        composed = _checked(asked.form, int(console.clock()))
    except ConfigError as error:
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        return _send(console, asked, 400, error=text)
    return _send(console, asked, composed=composed)


def _checked(form: Mapping[str, str], now_s: int) -> Composed:
    """Return the lines that sign a command, after a device's own decoder has accepted it."""
    kind, devices = form.get("type", ""), _devices(form.get("devices", ""))
    pairs = [one.strip() for one in form.get("arg", "").splitlines() if one.strip()]
    valid_s = HOURS.get(form.get("hours", ""), HOURS["1"])
    release = form.get("expect", "").strip()
    args: Mapping[str, Any] = arguments(pairs)
    compose(
        kind,
        devices[0],
        f"{kind}-{Ulids().next(now_s * 1000)}"[:64],
        args=args,
        expect={"release": release} if release else None,
        now_s=now_s,
        valid_s=valid_s,
    )
    many = len(devices) > _ON_ONE_LINE
    words = [kind, *(["--devices", "devices.txt"] if many else devices)]
    words += [word for pair in pairs for word in ("--arg", pair)]
    words += ["--expect", release] if release else []
    words += ["--valid-s", str(valid_s), "--key", "ops.key"]
    return Composed(
        sign=shlex.join(["quantd", "sign", *words, "--output", "command.jws"]),
        send=shlex.join(["quantd", "send", *words, "--broker", "BROKER"]),
        devices=tuple(devices),
        many=many,
    )


def _devices(text: str) -> list[str]:
    found = list(dict.fromkeys(text.replace(",", " ").split()))
    wrong = next((one for one in found if not is_command_id(one)), None)
    if wrong is not None:
        raise ConfigError(f"{wrong[:80]!r} can't be a device's id", code="usage")
    if not 0 < len(found) <= _MOST_DEVICES:
        seen = f"{len(found)} devices, {_MOST_DEVICES} is the limit" if found else "no device"
        raise ConfigError(seen, code="usage")
    return found


def _take(console: Console, asked: Asked) -> Response:
    """Keep signed commands before the first one is published, then have them sent."""
    try:
        commands = read_tokens(asked.form.get("signed", "").encode())
        ids = console.commands.keep(commands, asked.name)
    except ConfigError as error:
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        return _send(console, asked, 400, taken_error=text)
    first = commands[0]
    counted = first.device if len(commands) == 1 else f"{len(commands)} devices"
    detail = f"{first.type} for {counted}"
    console.accounts.record(
        asked.name, "sent a command", ", ".join(ids)[:200], detail=detail, address=asked.address
    )
    console.wake()
    target = f"/commands/{quote(ids[0])}" if len(ids) == 1 else "/commands"
    return RedirectResponse(target, 303)


def _listed(console: Console, asked: Asked) -> Response:
    number = page_number(asked)
    found = console.commands.listed((number - 1) * ROWS, ROWS + 1)
    return console.rendering.html(
        asked, "commands.html.j2", commands=found[:ROWS], number=number, more=len(found) > ROWS
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A command, how it was published, and the last answer of each device.

    Attributes:
        rows: Device, state of publishing, answer.
        stages: How many devices are in each stage; "no answer yet" for those without one.
    """

    sent: Sent
    rows: tuple[tuple[str, str, ResultRow | None], ...]
    stages: Mapping[str, int]
    ended: int


def _followed(console: Console, command: str) -> Followed | None:
    def ask() -> Followed | None:
        found = console.commands.listed(command=command)
        if not found:
            return None
        answers = {one.device: one for one in console.store.answers(command, limit=10**6).rows}
        states = console.commands.devices(command)
        rows = tuple((device, state, answers.get(device)) for device, state in states)
        stages: dict[str, int] = {}
        for _, state, answer in rows:
            stage = answer.stage if answer else _unanswered(state)
            stages[stage] = stages.get(stage, 0) + 1
        ended = sum(answer is not None and answer.stage in _FINAL for _, _, answer in rows)
        return Followed(sent=found[0], rows=rows, stages=stages, ended=ended)

    return console.remembered.get(("command", command), 0.5, ask)


def _unanswered(state: str) -> str:
    return {"waiting": "to be sent", "sent": "no answer yet"}.get(state, state)


def _command(console: Console, asked: Asked) -> Response:
    found = _followed(console, asked.path["id"])
    if found is None:
        return message(console, asked, 404, "No such command", "None of that id was sent here.")
    number = page_number(asked)
    return console.rendering.html(
        asked,
        "command.html.j2",
        **_part(console, found, number),
        live=f"/live/commands/{quote(found.sent.id)}?page={number}",
    )


def _part(console: Console, found: Followed, number: int) -> dict[str, Any]:
    return {
        "found": found,
        "rows": found.rows[(number - 1) * ROWS : number * ROWS],
        "number": number,
        "more": number * ROWS < len(found.rows),
        "now_ms": console.now_ms,
    }


def _live(console: Console, asked: Asked) -> Response:
    number = page_number(asked)

    def look() -> Parts:
        found = _followed(console, asked.path["id"])
        if found is None:
            return {}
        values = _part(console, found, number)
        html = console.rendering.text
        return {
            "progress": (
                (found.stages, found.sent),
                lambda: html("command_progress.html.j2", asked=asked, **values),
            ),
            "answers": (
                values["rows"],
                lambda: html("command_answers.html.j2", asked=asked, **values),
            ),
        }

    return stream(console, look)


def _again(console: Console, asked: Asked) -> Response:
    command = asked.path["id"]
    found = _followed(console, command)
    if found is None:
        return message(console, asked, 404, "No such command", "None of that id was sent here.")
    open_ones = [
        device for device, _, answer in found.rows if answer is None or answer.stage not in _FINAL
    ]
    console.commands.again(command, open_ones)
    console.accounts.record(
        asked.name, "sent a command again", command, detail=f"{len(open_ones)} devices",
        address=asked.address,
    )  # fmt: skip
    console.wake()
    return RedirectResponse(f"/commands/{quote(command)}", 303)


ROUTES = (
    Route(path="/send", endpoint=_send, role=Role.OPERATOR),
    Route(path="/send/compose", endpoint=_compose, role=Role.OPERATOR, method="POST"),
    Route(path="/send/signed", endpoint=_take, role=Role.OPERATOR, method="POST"),
    Route(path="/commands", endpoint=_listed),
    Route(path="/commands/{id}", endpoint=_command),
    Route(path="/commands/{id}/again", endpoint=_again, role=Role.OPERATOR, method="POST"),
    Route(path="/live/commands/{id}", endpoint=_live, passive=True),
)
