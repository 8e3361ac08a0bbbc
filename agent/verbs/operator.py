"""The verbs keygen, sign and send: an operator's keys, and signed commands to devices."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from agent.config import Mqtt, broker_settings
from agent.core.control.command import is_command_id
from agent.core.control.following import exit_code
from agent.core.errors import ConfigError
from agent.terminal import FollowedCommands, ProgressBars, outcome, show
from agent.verbs.interrupt import interruptible
from agent.verbs.options import JSON, Verb, option, print_json
from agent.wire.commands import COMMANDS
from agent.wire.issuing import SignedCommand, arguments, read_tokens

_FILE_LIMIT_BYTES = 64 * 1024 * 1024
_DEVICES_LIMIT = 50_000
_VALID_S = 3600


def _keygen(options: argparse.Namespace) -> int:
    from agent.wiring.operator import make_key

    private, public = make_key(Path(options.output), options.key)
    if options.json:
        print_json({"kid": options.key, "private": str(private), "public": str(public)})
    else:
        show(f"{private}   stays here: it commands the devices")
        show(f"{public}   belongs in commands.keys_dir of the devices (/etc/quantd/keys)")
    return 0


def _sign(options: argparse.Namespace) -> int:
    from agent.wiring.operator import keep

    commands = _signed(options)
    if options.output:
        keep(commands, Path(options.output))
        show(f"{options.output}: {_counted(commands)}")
    else:
        sys.stdout.write("".join(f"{one.token.decode()}\n" for one in commands))
    return 0


def _send(options: argparse.Namespace) -> int:
    from agent.wiring.operator import follow, keep

    settings = _broker(options)
    if options.signed:
        if options.command or options.device:
            raise ConfigError("both --signed and a command are given", code="usage")
        commands, kept = read_tokens(_read(options.signed)), Path(options.signed)
    else:
        commands = _signed(options)
        kept = Path(options.output or f"{commands[0].id}.jws")
        keep(commands, kept)  # before the first one is sent
    show(f"{kept}: {_counted(commands)}")
    cancelled = threading.Event()
    with interruptible(cancelled), ProgressBars() as bars:
        found = follow(
            settings,
            commands,
            watch=FollowedCommands(bars).update,
            cancelled=cancelled,
            wait=not options.no_wait,
        )
    if options.json:
        print_json(found)
    else:
        outcome(found)
    if options.no_wait and not cancelled.is_set():
        found = [one for one in found if one.ended]
    elif not all(one.ended for one in found):
        show(f"`quantd send --signed {kept}` follows them again; no command is run twice")
    return exit_code(found)


def _signed(options: argparse.Namespace) -> list[SignedCommand]:
    from agent.wiring.operator import new_id, sign

    if not options.command:
        raise ConfigError("no command", code="usage", hint=f"one of {', '.join(COMMANDS)}")
    if not options.key:
        raise ConfigError("no --key", code="usage", hint="`quantd keygen NAME` makes NAME.key")
    return sign(
        options.command,
        _devices(options.device, options.devices),
        options.id or new_id(options.command),
        key=Path(options.key),
        kid=options.kid,
        args=arguments(options.arg),
        expect={"release": options.expect or None} if options.expect is not None else None,
        valid_s=options.valid_s,
    )


def _devices(named: Sequence[str], file: str | None) -> list[str]:
    """Return the ids on the command line and in a file, one a line, in their order."""
    listed = list(named)
    if file:
        lines = _read(file).decode("utf-8", errors="replace").splitlines()
        listed += [one for line in lines if (one := line.partition("#")[0].strip())]
    found = list(dict.fromkeys(listed))
    wrong = [one for one in found if not is_command_id(one)]
    if wrong:
        raise ConfigError(
            f"{wrong[0][:80]!r} can't be a device's id",
            code="usage",
            hint="letters, digits, '.', '_' and '-', at most 64",
        )
    if not 0 < len(found) <= _DEVICES_LIMIT:
        seen = f"{len(found)} devices" if found else "no device"
        hint = f"name them, or a file with --devices; at most {_DEVICES_LIMIT}"
        raise ConfigError(seen, code="usage", hint=hint)
    return found


def _broker(options: argparse.Namespace) -> Mqtt:
    host, _, port = options.broker.rpartition(":")
    if not host:
        host, port = options.broker, ""
    values = {
        "host": host.strip("[]"),
        "root": options.root,
        "username": options.username,
        "password_file": options.password_file,
        "tls": {"ca": options.ca, "cert": options.cert, "key": options.cert_key},
    }
    if port and not port.isdigit():
        raise ConfigError(f"--broker {options.broker}", code="usage", hint="HOST or HOST:PORT")
    return broker_settings(values | ({"port": int(port)} if port else {}))


def _read(file: str) -> bytes:
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            body = source.read(_FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    if len(body) > _FILE_LIMIT_BYTES:
        raise ConfigError(f"{file}: above {_FILE_LIMIT_BYTES} bytes")
    return body


def _counted(commands: Sequence[SignedCommand]) -> str:
    devices = commands[0].device if len(commands) == 1 else f"{len(commands)} devices"
    return f"{commands[0].type} {commands[0].id} for {devices}"


_COMMAND = (
    option("command", metavar="COMMAND", nargs="?", help=", ".join(COMMANDS)),
    option("device", metavar="DEVICE", nargs="*", help="ids of devices"),
    option("--devices", metavar="FILE", help="more ids, one a line; -: standard input"),
    option("--key", metavar="FILE", help="the private key, as `quantd keygen` makes it"),
    option("--kid", default="", help="the key's name on the devices (default: that of the file)"),
    option("--id", default="", help="the command's id (default: a new one)"),
    option(
        "--arg",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an argument: release=..., model=..., limits.latency_p99_ms=20, reason=...",
    ),
    option(
        "--expect",
        metavar="RELEASE",
        help='only if this release is active; "" if none is',
    ),
    option(
        "--valid-s",
        type=int,
        default=_VALID_S,
        help=f"until it expires, s; devices take at most commands.max_exp_s (default: {_VALID_S})",
    ),
)
OPERATOR = (
    Verb(
        name="keygen",
        summary="make a key pair to sign commands with",
        run=_keygen,
        options=(
            option("key", metavar="NAME", help="of the key on the devices"),
            option("--output", metavar="DIR", default=".", help="of both files (default: here)"),
            JSON,
        ),
        example="quantd keygen ops",
    ),
    Verb(
        name="sign",
        summary="sign a command for devices, to be sent from another machine",
        run=_sign,
        options=(
            *_COMMAND,
            option("--output", metavar="FILE", help="one signed command a line (default: stdout)"),
        ),
        example="quantd sign reoptimize --devices north.txt --key ops.key --output north.jws",
    ),
    Verb(
        name="send",
        summary="send a signed command to devices and follow what becomes of it",
        run=_send,
        options=(
            *_COMMAND,
            option("--signed", metavar="FILE", help="send what `sign` or `send` wrote, unchanged"),
            option("--output", metavar="FILE", help="of the signed commands (default: ID.jws)"),
            option("--broker", metavar="HOST[:PORT]", required=True, help="port: 8883, with TLS"),
            option("--root", default="quantd", help="mqtt.root of the devices (default: quantd)"),
            option("--ca", metavar="PEM", default="", help="as mqtt.tls.ca"),
            option("--cert", metavar="PEM", default="", help="as mqtt.tls.cert"),
            option("--cert-key", metavar="PEM", default="", help="as mqtt.tls.key"),
            option("--username", default="", help="as mqtt.username"),
            option("--password-file", metavar="FILE", default="", help="as mqtt.password_file"),
            option("--no-wait", action="store_true", help="do not wait for the devices' answers"),
            JSON,
        ),
        example="quantd send reoptimize cam-017 --key ops.key --broker broker.example",
    ),
)
