"""Incoming commands: from hostile bytes to a `Command`, or to the reason why not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta

from agent.core.choice.limits import LIMITS
from agent.core.control.command import BODY_LIMIT_BYTES, Command, CommandId, Rejection
from agent.core.control.requests import Request, ResendMessages, Task
from agent.core.errors import CommandError, suggestion

_Stored = TypeVar("_Stored", bound=Request)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$(.*)`)?$")
_YEAR_9999_S = 253_402_300_799
_NAME = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)")]
_ID = Annotated[str, Meta(min_length=1, max_length=128)]
_TEXT = Annotated[str, Meta(max_length=200)]
_NUMBER = Annotated[int, Meta(ge=0, le=2**53)]
_TIME = Annotated[float, Meta(ge=0, le=_YEAR_9999_S)] | str


if TYPE_CHECKING:
    LimitArgs = msgspec.Struct
else:
    LimitArgs = msgspec.defstruct(
        "LimitArgs",
        [
            (key, Annotated[float, Meta(ge=0, le=limit.highest)] | None, None)
            for key, limit in LIMITS.items()
        ],
        namespace={
            "__doc__": "Limits for this run instead of the configured ones; 0 lifts a limit."
        },
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


# The valid values of each argument. What a request has beside them, no command can set.
_ARGUMENTS: dict[str, Any] = {
    "model": _NAME | None,
    "reuse_calibration": bool,
    "limits": LimitArgs | None,
    "reason": _TEXT | None,
    "release": _NAME,
    "target": _ID | None,
    "from_seq": _NUMBER,
    "to_seq": _NUMBER | None,
    "stream": Literal["event", "report", "result"] | None,
}


def _args(request: type[Request]) -> type[msgspec.Struct]:
    """Return the struct of a request's arguments as they arrive."""
    found: list[Any] = []
    for one in fields(request):
        if one.name in _ARGUMENTS:
            needed = one.default is MISSING and one.default_factory is MISSING
            default = () if needed else (None if one.default is MISSING else one.default,)
            found.append((one.name, _ARGUMENTS[one.name], *default))
    return msgspec.defstruct(
        f"{request.command.capitalize()}Args",
        found,
        namespace={"__doc__": cleandoc(request.__doc__ or "").partition("\n\nAttributes:")[0]},
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


ARGS: dict[type[Request], type[msgspec.Struct]] = {
    request: _args(request) for request in get_args(Request)
}
COMMANDS = {request.command: request for request in ARGS}
_TASKS: dict[str, type[Task]] = {task.kind: task for task in get_args(Task)}


class ExpectBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be true of the device, on arrival and when the command begins.

    Attributes:
        release: Id of the active release, null where none is active.
    """

    release: _NAME | None


class CommandBody(msgspec.Struct, frozen=True, kw_only=True):
    """A command on the wire; unknown fields are ignored, unknown arguments are not.

    Attributes:
        id: Must equal the last level of the topic; so must `jti`, its name in a signed token.
        dev: Must equal the device's id; so must `aud`, its name in a signed token.
        iat: When it was issued; RFC 3339 with offset, or s since 1970. So are nbf and exp.
        expect: See `ExpectBody`; for commands that change something.
    """

    v: int = 1
    type: str
    id: str | None = None
    jti: str | None = None
    dev: str | None = None
    aud: str | None = None
    iat: _TIME | None = None
    nbf: _TIME | None = None
    exp: _TIME | None = None
    expect: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    args: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


_BODY = msgspec.json.Decoder(CommandBody)
_EXPECT = msgspec.json.Decoder(ExpectBody | None)
_ARGS = {request: msgspec.json.Decoder(args) for request, args in ARGS.items()}


def digest(body: bytes) -> str:
    """Return the sha256 of the bytes, hex: it differs between two commands with the same id."""
    return hashlib.sha256(body).hexdigest()


def is_token(body: bytes) -> bool:
    """Return whether a body is meant as a signed token, not as plain JSON."""
    return body[:3] == b"eyJ"  # base64url of '{"', as every JWS header begins


def decode_command(
    body: bytes, command_id: CommandId, *, sha256: str, signed: bool
) -> Command | Rejection:
    """Return the command in a body.

    Args:
        body: JSON; of a signed token the claims.
        command_id: The id that the topic names.
        sha256: `digest` of the message as it arrived.
        signed: Whether the claims come from a verified token; then id, device and expiry
            must be among them, else the token could be used elsewhere or for ever.
    """
    if len(body) > BODY_LIMIT_BYTES:
        return Rejection("too_large", f"{len(body)} bytes, {BODY_LIMIT_BYTES} is the limit")
    try:
        found = _BODY.decode(body)
        times = [_seconds(getattr(found, name), name) for name in ("iat", "nbf", "exp")]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejection("bad_json", _reason(error))
    refused = _identity(found, command_id, signed=signed)
    if refused is not None:
        return refused
    try:
        request = _request(found)
    except CommandError as error:
        return Rejection("unsupported", f"{found.type}: {error.message}")
    return Command(
        id=command_id,
        request=request,
        dev=found.dev if found.dev is not None else found.aud,
        iat=times[0],
        nbf=times[1],
        exp=times[2],
        digest=sha256,
        signed=signed,
    )


def _request(body: CommandBody) -> Request:
    kind = COMMANDS[body.type]
    args = _part("args", _ARGS[kind], body.args)
    expect = _part("expect", _EXPECT, body.expect)
    if expect is not None:
        if "expect" not in kind.__dataclass_fields__:
            raise CommandError("expect: only a command that changes something can have it")
        args["expect"] = expect
    request = msgspec.convert(args, kind)
    if isinstance(request, ResendMessages):
        first, last = request.from_seq, request.to_seq
        if last is not None and first > last:
            raise CommandError(f"args: from_seq {first} is above to_seq {last}")
    return request


def _part(name: str, decoder: msgspec.json.Decoder[Any], body: msgspec.Raw) -> Any:
    try:
        return msgspec.to_builtins(decoder.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        known = _known(error, getattr(decoder.type, "__struct_fields__", ()))
        raise CommandError(f"{name}: {_reason(error)}{known}") from error


def decode_request(command: str, stored: str) -> Request:
    """Return what a command asks for, from what the journal has of it.

    Raises:
        CommandError: "unsupported" if this version does not know it: a later one stored it.
    """
    return _from_journal(COMMANDS, command, stored)


def decode_task(stored: str) -> Task:
    """Return the task that `encode_task` made text of; raises as `decode_request`."""
    try:
        spec = msgspec.json.decode(stored, type=_TaskSpec)
    except msgspec.MsgspecError as error:
        raise CommandError(f"stored task: {error}", code="unsupported") from error
    return _from_journal(_TASKS, spec.kind, spec.args)


def encode_task(task: Task) -> str:
    """Return a task as the journal keeps it."""
    return msgspec.json.encode({"kind": task.kind, "args": task}).decode()


class _TaskSpec(msgspec.Struct, frozen=True):
    kind: str
    args: msgspec.Raw


def _from_journal(
    kinds: Mapping[str, type[_Stored]], name: str, args: str | msgspec.Raw
) -> _Stored:
    if name not in kinds:
        raise CommandError(f"{name} is not known", code="unsupported")
    try:
        found = msgspec.json.decode(args, type=dict[str, Any])
        kind: Any = kinds[name]
        unknown = [
            key for key, value in found.items() if value and key not in kind.__dataclass_fields__
        ]
        if unknown:  # without it, the command would be another one
            raise msgspec.ValidationError(f"{unknown[0]} is not known")
        takes = ARGS[kind].__struct_fields__
        msgspec.convert({key: found[key] for key in takes if key in found}, ARGS[kind])
        msgspec.convert(found.get("expect"), ExpectBody | None)
        return msgspec.convert(found, kinds[name])
    except msgspec.MsgspecError as error:
        raise CommandError(f"{name}: {error}", code="unsupported") from error


def _identity(found: CommandBody, command_id: CommandId, *, signed: bool) -> Rejection | None:
    if found.v != 1:
        return Rejection("unsupported", f"schema version {found.v}, this device knows 1")
    if found.type not in COMMANDS:
        known = ", ".join(COMMANDS)
        return Rejection("unsupported", f"type {found.type[:64]!r}, this device knows {known}")
    for name, expected in (("id", command_id), ("jti", command_id), ("aud", found.dev)):
        seen = getattr(found, name)
        if seen is not None and expected is not None and seen != expected:
            code = "wrong_device" if name == "aud" else "bad_json"
            return Rejection(code, f"{name} is {seen[:64]!r}, not {expected[:64]!r}")
    if signed:
        missing = [
            name
            for name, value in (
                ("jti", found.jti or found.id),
                ("aud", found.aud or found.dev),
                ("exp", found.exp),
            )
            if value is None
        ]
        if missing:
            return Rejection("bad_signature", f"signed without {', '.join(missing)}")
    return None


def _seconds(value: float | str | None, name: str) -> float | None:
    """Return a time as s since 1970."""
    if not isinstance(value, str):
        return value
    moment = msgspec.convert(value, datetime)
    if moment.tzinfo is None:
        raise msgspec.ValidationError(f"{name} {value!r} has no UTC offset")
    return moment.timestamp()


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error)[:300]


def _known(error: Exception, arguments: Sequence[str]) -> str:
    """Return the names that an unknown one could have been, in words; "" for any other error."""
    unknown = _UNKNOWN.match(str(error))
    if unknown is None:
        return ""
    name, place = unknown.groups()
    known = list(LIMITS) if place == ".limits" else arguments
    return f"; {suggestion(name[:64], known)}known: {', '.join(known) or 'none'}"
