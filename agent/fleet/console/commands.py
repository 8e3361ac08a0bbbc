"""Signed commands as they were given, kept before they are sent, never changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.control.command import CommandId
from agent.core.errors import ConfigError
from agent.fleet.console.database import Database
from agent.wire.issuing import SignedCommand

_LAST_ID = "~"  # above every character of an id
_KEPT_S = 90 * 86_400
_SCHEMA = """
create table if not exists command(
  id text primary key, type text not null, user text not null, at real not null, exp real not null);
create table if not exists sending(
  command text not null, device text not null, token blob not null, exp real not null,
  state text not null default 'waiting', primary key(command, device)) without rowid;
create index if not exists sending_waiting on sending(state) where state = 'waiting';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A command and how far its sending is; times in s since 1970.

    Attributes:
        waiting: Devices that it is still to be published to.
        refused: Devices for which the broker refused it, or that it expired for.
    """

    id: str
    type: str
    user: str
    at: float
    exp: float
    devices: int
    waiting: int
    refused: int


class Commands:
    """The commands of one console.

    Args:
        file: The database.
        clock: Wall clock, s since 1970.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._db = Database(file, _SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def keep(self, commands: Sequence[SignedCommand], user: str) -> list[CommandId]:
        """Keep signed commands, to be sent; one that is kept already is sent again unchanged.

        Returns:
            Their ids, each once.

        Raises:
            ConfigError: "conflict" if other bytes are kept under the same id for a device; none is
                kept then.
        """
        now = self._clock()
        with self._db.transaction() as db:
            db.execute("delete from command where at < ?", (now - _KEPT_S,))
            db.execute("delete from sending where command not in (select id from command)")
            for one in commands:
                row = db.execute(
                    "select token from sending where command = ? and device = ?",
                    (one.id, one.device),
                ).fetchone()
                if row is not None and row[0] != one.token:
                    raise ConfigError(
                        f"{one.id} for {one.device} was given before with other bytes",
                        code="conflict",
                        hint="sign it with another id, or give the file of that time",
                    )
                db.execute(
                    "insert into command values(?,?,?,?,?) on conflict(id) do nothing",
                    (one.id, one.type, user, now, one.exp_s),
                )
                db.execute(
                    "insert into sending(command, device, token, exp) values(?,?,?,?)"
                    " on conflict(command, device) do update set state = 'waiting'",
                    (one.id, one.device, one.token, one.exp_s),
                )
        return list(dict.fromkeys(one.id for one in commands))

    def waiting(self, limit: int = 500) -> list[tuple[str, str, bytes, float]]:
        """Return command, device, token and expiry of what is to be published next."""
        with self._db.transaction() as db:
            return db.execute(
                "select command, device, token, exp from sending where state = 'waiting' limit ?",
                (limit,),
            ).fetchall()

    def mark(self, outcomes: Sequence[tuple[str, str, str]]) -> None:
        """Store what became of publishing: command, device, and "sent" or why not."""
        with self._db.transaction() as db:
            db.executemany(
                "update sending set state = ? where command = ? and device = ?",
                [(state, command, device) for command, device, state in outcomes],
            )

    def again(self, command: str, devices: Sequence[str]) -> None:
        """Publish the kept bytes once more; a device answers with its last stage."""
        with self._db.transaction() as db:
            db.executemany(
                "update sending set state = 'waiting' where command = ? and device = ?",
                [(command, one) for one in devices],
            )

    def listed(self, first: int = 0, count: int = 50, *, command: str = "") -> list[Sent]:
        """Return commands, newest first; or only the one of an id."""
        with self._db.transaction() as db:
            rows = db.execute(
                "select c.id, c.type, c.user, c.at, c.exp, count(*), sum(s.state = 'waiting'),"
                " sum(s.state not in ('waiting', 'sent'))"
                " from command c join sending s on s.command = c.id where c.id between ? and ?"
                " group by c.id order by c.at desc, c.id limit ? offset ?",
                (command, command or _LAST_ID, count, first),
            ).fetchall()
        names = ("id", "type", "user", "at", "exp", "devices", "waiting", "refused")
        return [Sent(**dict(zip(names, row, strict=True))) for row in rows]

    def devices(self, command: str) -> list[tuple[str, str]]:
        """Return device and state of publishing of a command, by device."""
        with self._db.transaction() as db:
            return db.execute(
                "select device, state from sending where command = ? order by device", (command,)
            ).fetchall()
