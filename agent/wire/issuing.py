"""Commands from an operator: composed, checked by the device's own decoder, framed for signing.

What is signed is kept and sent again unchanged: a device answers the same bytes with its last
stage, and refuses other bytes with the same id. A file of signed commands has one JWS in compact
form a line (RFC 7515); device and id are in its claims.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.control.command import BODY_LIMIT_BYTES, CommandId, Rejection, is_command_id
from agent.core.errors import ConfigError
from agent.wire.commands import COMMANDS, decode_command

_LINE_LIMIT = 2 * BODY_LIMIT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCommand:
    """A command as it is published.

    Attributes:
        type: As `reoptimize`.
        exp_s: When it expires, s since 1970.
        token: The bytes, never changed.
    """

    device: str
    id: CommandId
    type: str
    exp_s: float
    token: bytes


def arguments(pairs: Sequence[str]) -> Mapping[str, Any]:
    """Return arguments from NAME=VALUE; a dot leads into a table, as limits.fps=30.

    Raises:
        ConfigError: "usage" for one of another form.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise ConfigError(f"argument {pair}", code="usage", hint="NAME=VALUE")
        *tables, last = name.split(".")
        place = found
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise ConfigError(f"argument {pair}: {table} is a value already", code="usage")
        place[last] = _value(text)
    return found


def _value(text: str) -> Any:
    """Return a number, true, false or null; any other text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (int, float, bool)) or value is None else text


def compose(
    kind: str,
    device: str,
    command_id: str,
    *,
    args: Mapping[str, Any],
    expect: Mapping[str, Any] | None,
    now_s: int,
    valid_s: int,
) -> bytes:
    """Return the claims of a command, JSON, as the device's decoder accepts them.

    Args:
        kind: Its type, as `reoptimize`.
        device: The device's id.
        command_id: 1 to 64 letters, digits, '.', '_', '-'; never used for another command.
        args: Of its type.
        expect: {"release": id} for compare-and-set; None for none.
        now_s: Time of issue, s since 1970.
        valid_s: Until it expires, s.

    Raises:
        ConfigError: "usage" with what the device would answer.
    """
    if kind not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ConfigError(f"no command {kind}", code="usage", hint=f"known: {known}")
    if not is_command_id(command_id):
        raise ConfigError(
            f"{command_id[:80]!r} can't be a command's id",
            code="usage",
            hint="letters, digits, '.', '_' and '-', at most 64",
        )
    claims = {
        "v": 1, "type": kind, "jti": command_id, "aud": device, "iat": now_s,
        "exp": now_s + valid_s, "args": dict(args), "expect": expect,
    }  # fmt: skip
    body = json.dumps(claims, separators=(",", ":")).encode()
    found = decode_command(body, CommandId(command_id), sha256="", signed=True)
    if isinstance(found, Rejection):
        raise ConfigError(found.detail, code="usage")
    return body


def signing_input(claims: bytes, kid: str) -> bytes:
    """Return the bytes that a JWS with Ed25519 signs (RFC 7515, 5.1; RFC 8037)."""
    header = json.dumps({"alg": "EdDSA", "kid": kid}, separators=(",", ":")).encode()
    return _base64url(header) + b"." + _base64url(claims)


def signed_token(signed: bytes, signature: bytes) -> bytes:
    """Return the JWS in compact form from a `signing_input` and its signature, 64 bytes."""
    return signed + b"." + _base64url(signature)


def read_token(token: bytes) -> SignedCommand:
    """Return what a signed command states; its signature is not verified.

    Raises:
        ConfigError: "bad_token" if no device could take it.
    """
    try:
        _, claims, _ = token.split(b".")
        body = base64.b64decode(claims + b"=" * (-len(claims) % 4), altchars=b"-_", validate=True)
        stated = json.loads(body)
        command_id = str(stated["jti"] if "jti" in stated else stated["id"])
        if not is_command_id(command_id):
            raise ValueError("its id is no command's id")
        found = decode_command(body, CommandId(command_id), sha256="", signed=True)
    except (ValueError, TypeError, LookupError, RecursionError, binascii.Error) as error:
        raise ConfigError(f"not a signed command: {error}", code="bad_token") from error
    if isinstance(found, Rejection):
        raise ConfigError(f"not a command that a device takes: {found.detail}", code="bad_token")
    if found.dev is None or found.exp is None or not is_command_id(found.dev):
        raise ConfigError("a signed command without a device or expiry", code="bad_token")
    return SignedCommand(
        device=found.dev, id=found.id, type=found.type, exp_s=found.exp, token=token
    )


def read_tokens(body: bytes) -> list[SignedCommand]:
    """Return the commands of a file of signed commands.

    Raises:
        ConfigError: "bad_token" with the line, also for a device and id that come twice.
    """
    found: dict[tuple[str, str], SignedCommand] = {}
    for number, line in enumerate(body.splitlines(), 1):
        if not line.strip():
            continue
        try:
            if len(line) > _LINE_LIMIT:
                raise ConfigError(f"{len(line)} bytes, {_LINE_LIMIT} is the limit")
            one = read_token(line.strip())
            if (one.device, one.id) in found:
                raise ConfigError(f"{one.id} for {one.device} comes twice")
        except ConfigError as error:
            raise ConfigError(f"line {number}: {error.message}", code="bad_token") from error
        found[one.device, one.id] = one
    if not found:
        raise ConfigError("no signed command in the file", code="bad_token")
    return list(found.values())


def _base64url(body: bytes) -> bytes:
    return base64.urlsafe_b64encode(body).rstrip(b"=")
