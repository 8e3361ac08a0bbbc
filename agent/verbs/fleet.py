"""The verb of the operator's side: `quantd fleet`, and its workers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.errors import ConfigError
from agent.verbs.options import JSON, Verb, option, print_json

if TYPE_CHECKING:
    from agent.fleet.asking import Sign
    from agent.fleet.service import Settings
    from agent.ports.fleet import FleetStore
    from agent.wire.issuing import SignedCommand


def _show(options: argparse.Namespace) -> int:
    import asyncio

    settings = _settings(options)
    try:
        from agent.fleet.console.serving import listening_at
        from agent.fleet.embedded import show
    except ImportError as error:
        from agent.packages import pip_install

        raise ConfigError(
            f"the console needs {error.name}",
            hint=f"{pip_install('starlette', 'uvicorn')}, or install quantd[fleet]",
        ) from error
    listening = listening_at(
        options.listen,
        cert=options.tls_cert,
        key=options.tls_key,
        behind_proxy=options.behind_proxy,
        user_header=options.user_header,
        proxies=tuple(options.proxy or ("127.0.0.1", "::1")),
    )
    is_file = "://" not in options.database
    accounts = Path(options.database).with_name("console.db") if is_file else Path("console.db")
    file = Path(options.accounts) if options.accounts else accounts
    token = _token(options.metrics_token_file)
    consume, sign = not options.no_consumer, _resend(options)
    asyncio.run(show(settings, listening, file, consume=consume, sign=sign, metrics_token=token))
    return 0


def _resend(options: argparse.Namespace) -> Sign | None:
    """Return what signs requests for missing messages, None without a key."""
    if not options.resend_key:
        return None
    from agent.fleet.asking import VALID_S
    from agent.wiring.operator import new_id, sign

    key = Path(options.resend_key)

    def signed(device: str, args: Mapping[str, Any]) -> SignedCommand:
        command = new_id("resend")
        found = sign(
            "resend", [device], command, key=key, kid="", args=args, expect=None, valid_s=VALID_S
        )
        return found[0]

    signed("none", {"from_seq": 0})  # a key that can't be used is an error now
    return signed


def _token(file: str) -> str:
    """Return the token in a file, "" without one."""
    if not file:
        return ""
    try:
        found = Path(file).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from error
    if len(found) < 16 or not found.isascii() or not found.isprintable():
        raise ConfigError(
            f"{file} has no token of at least 16 characters",
            hint=f"`openssl rand -hex 32 > {file}` writes one",
        )
    return found


def _worker(options: argparse.Namespace) -> int:
    import asyncio

    from agent.fleet.service import work

    _named(options)
    asyncio.run(work(_settings(options), options.worker))
    return 0


def _retire(options: argparse.Namespace) -> int:
    import asyncio

    from agent.fleet.service import retired

    _named(options)
    stored = asyncio.run(retired(_settings(options), options.worker))
    sys.stdout.write(f"{options.worker} is retired; {stored} messages of its session were stored\n")
    return 0


def _workers(options: argparse.Namespace) -> int:
    with _store(options) as store:
        found = store.workers()
    if options.json:
        print_json(found)
        return 0
    for one in found:
        state = "retired" if one.retired else f"{one.stored} stored, {one.quarantined} refused"
        sys.stdout.write(f"{one.name}: {state}\n")
    return 0


def _devices(options: argparse.Namespace) -> int:
    from agent.core.fleet.devices import DeviceQuery
    from agent.fleet.consumer import now_ms

    where = tuple(_pair(one) for one in options.where or ())
    query = DeviceQuery(where=where, sort="name", descending=False, limit=2**31 - 1)
    with _store(options) as store:
        found = store.devices(query, now_ms()).rows
    if options.json:
        print_json(found)
        return 0
    for one in found:
        needs = ", ".join(one.attention)
        sys.stdout.write(f"{one.name}\t{one.status}\t{one.model}\t{one.precision}\t{needs}\n")
    return 0


def _export(options: argparse.Namespace) -> int:
    from agent.disk import READABLE, write_atomically
    from agent.fleet.export import export

    written = StringIO(newline="")
    with _store(options) as store:
        count = export(store, written)
    if options.output:
        write_atomically(options.output, written.getvalue().encode(), mode=READABLE)
        sys.stderr.write(f"{options.output}: {count} measurements, for search.fleet\n")
    else:
        sys.stdout.write(written.getvalue())
    return 0


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[FleetStore]:
    """Open the store to read it; a file that does not exist is an error, not an empty fleet."""
    from agent.fleet.service import open_store

    if "://" not in options.database and not Path(options.database).exists():
        raise ConfigError(
            f"there is no database {options.database}",
            code="usage",
            hint="`quantd fleet` makes it where it runs; --database names it",
        )
    with closing(open_store(options.database)) as store:
        yield store


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "console": _show,
    "worker": _worker,
    "workers": _workers,
    "retire": _retire,
    "devices": _devices,
    "export": _export,
}


def _run(options: argparse.Namespace) -> int:
    return _ACTIONS[options.action](options)


def _settings(options: argparse.Namespace) -> Settings:
    from agent.fleet.service import Settings

    return Settings(
        broker=options.broker,
        root=options.root,
        database=options.database,
        ca=options.ca,
        cert=options.cert,
        key=options.key,
        username=options.username,
        password_file=options.password_file,
    )


def _named(options: argparse.Namespace) -> None:
    from agent.core.control.command import is_command_id

    if not is_command_id(options.worker or ""):
        raise ConfigError(
            f"--name: {(options.worker or '')[:64]!r} is no name of a worker",
            code="usage",
            hint="letters, digits, '.', '_' and '-', such as `--name host-1`; it must stay the same",
        )


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--where: {text[:64]!r} is not KEY=VALUE", code="usage")
    return key, value


FLEET = (
    Verb(
        name="fleet",
        summary="store and show what a fleet of devices sends",
        run=_run,
        options=(
            option(
                "action",
                nargs="?",
                default="console",
                choices=tuple(_ACTIONS),
                metavar="action",
                help="console (the default): the web console, which also stores messages; worker: store messages, as one of several; workers: list them; "
                "retire: end one; devices: list the devices; export: what they measured, as CSV for search.fleet",
            ),
            option(
                "--name", dest="worker", metavar="W", help="of the worker; it must stay the same"
            ),
            option(
                "--database",
                metavar="DB",
                default="fleet.db",
                help="a SQLite file, or postgresql://USER@HOST/NAME where one machine is outgrown "
                "(default: fleet.db)",
            ),
            option(
                "--broker",
                metavar="HOST[:PORT]",
                default="127.0.0.1",
                help="of the devices (default: 127.0.0.1)",
            ),
            option("--root", default="quantd", help="first level of the topics (default: quantd)"),
            option("--ca", default="", metavar="PEM", help="the broker's authority"),
            option("--cert", default="", metavar="PEM", help="certificate for the broker"),
            option("--key", default="", metavar="PEM", help="its key"),
            option("--username", default="", metavar="U", help="for the broker"),
            option("--password-file", default="", metavar="FILE", help="with the password"),
            option(
                "--where",
                action="append",
                metavar="K=V",
                help="devices: only those with this status, model, board, precision or label",
            ),
            option(
                "--output", default="", metavar="CSV", help="export: the file (default: stdout)"
            ),
            option(
                "--listen",
                metavar="[HOST:]PORT",
                default="127.0.0.1:8765",
                help="of the console (default: 127.0.0.1:8765)",
            ),
            option("--tls-cert", default="", metavar="PEM", help="certificate of the console"),
            option("--tls-key", default="", metavar="PEM", help="its key"),
            option(
                "--behind-proxy",
                action="store_true",
                help="a proxy in front of the console ends TLS",
            ),
            option(
                "--user-header",
                default="",
                metavar="NAME",
                help="the header in which that proxy names the user, instead of a sign-in",
            ),
            option(
                "--proxy",
                action="append",
                metavar="IP",
                help="address of that proxy (default: this machine)",
            ),
            option(
                "--accounts",
                default="",
                metavar="FILE",
                help="the console's users and audit log (default: console.db beside the database)",
            ),
            option(
                "--metrics-token-file",
                default="",
                metavar="FILE",
                help="with the token that Prometheus gives for /metrics (default: no metrics)",
            ),
            option(
                "--no-consumer",
                action="store_true",
                help="only show: workers store the messages",
            ),
            option(
                "--resend-key",
                default="",
                metavar="NAME.key",
                help="a private key that devices know as NAME, to ask them for missing messages",
            ),
            JSON,
        ),
        example="quantd fleet devices --where site=north --json",
    ),
)
