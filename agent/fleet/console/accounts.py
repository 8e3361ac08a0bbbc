"""Users of the console, their sessions, one-time links, and the audit log, in one SQLite file."""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.fleet.console.database import Database
from agent.fleet.console.passwords import (
    AccessError,
    Attempts,
    check_new,
    matches,
    password_hash,
)

SESSION_S = 12 * 3600  # from sign-in to its end
IDLE_S = 2 * 3600  # without a request
LINK_S = 24 * 3600
_SEEN_EVERY_S = 60  # a session's last use is written at most so often
_AUDIT_ROWS = 100_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SCHEMA = """
create table if not exists users(
  name text primary key, role text not null, password text, created real not null);
create table if not exists links(
  token text primary key, name text not null, role text not null, expires real not null);
create table if not exists sessions(
  id text primary key, name text not null, created real not null, seen real not null);
create table if not exists audit(
  n integer primary key, at real not null, user text not null, action text not null,
  subject text not null, detail text not null, address text not null);
"""


class Role(Enum):
    """What a user may do: an operator everything, a viewer look."""

    VIEWER = "viewer"
    OPERATOR = "operator"

    def includes(self, other: Role) -> bool:
        """Return whether this role may do what the other may."""
        return self is Role.OPERATOR or other is Role.VIEWER


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person with a role; `created` in s since 1970, `active` once a password is set."""

    name: str
    role: Role
    created: float = 0.0
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the audit log; `at` in s since 1970, `address` of the client."""

    at: float
    user: str
    action: str
    subject: str
    detail: str
    address: str


class Accounts:
    """The users of one console; safe to use from several threads.

    Args:
        file: The database, readable by its owner alone.
        clock: Wall clock, s since 1970.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._attempts = Attempts()
        self._db = Database(file, _SCHEMA)
        self._transaction = self._db.transaction

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def sign_in(self, name: str, password: str) -> str:
        """Return the id of a new session.

        Raises:
            AccessError: "wait" after too many attempts, "refused" for a wrong name or password.
        """
        self._attempts.begin(name[:64], time.monotonic())
        with self._transaction() as db:
            row = db.execute("select password from users where name = ?", (name,)).fetchone()
        if not matches(password, row[0] if row else None):
            raise AccessError("wrong name or password", code="refused")
        self._attempts.succeeded(name)
        return self._begin_session(name)

    def user_of(self, session: str, *, passive: bool = False) -> User | None:
        """Return the user of a session, None if it has ended; a passive look does not prolong it."""
        now, key = self._clock(), _sha256(session)
        with self._transaction() as db:
            row = db.execute(
                "select u.name, u.role, u.created, s.created, s.seen from sessions s join users u"
                " on u.name = s.name where s.id = ?",
                (key,),
            ).fetchone()
            if row is None:
                return None
            if now - row[3] > SESSION_S or now - row[4] > IDLE_S:
                db.execute("delete from sessions where id = ?", (key,))
                return None
            if now - row[4] > _SEEN_EVERY_S and not passive:
                db.execute("update sessions set seen = ? where id = ?", (now, key))
        return User(name=row[0], role=Role(row[1]), created=row[2])

    def sign_out(self, session: str) -> None:
        """End a session."""
        with self._transaction() as db:
            db.execute("delete from sessions where id = ?", (_sha256(session),))

    def role(self, name: str) -> Role | None:
        """Return the role of a name, for one that a proxy has authenticated."""
        with self._transaction() as db:
            row = db.execute("select role from users where name = ?", (name,)).fetchone()
        return Role(row[0]) if row else None

    def users(self) -> list[User]:
        """Return all users by name, also those with a link that was not used yet."""
        with self._transaction() as db:
            rows = db.execute(
                "select name, role, created, password is not null from users order by name"
            ).fetchall()
        return [
            User(name=name, role=Role(role), created=created, active=bool(active))
            for name, role, created, active in rows
        ]

    def link(self, name: str, role: Role) -> str:
        """Return the token of a one-time link to set the password of a user, new or known.

        The password that a known user has remains valid until the link is used.

        Raises:
            AccessError: "bad_name", or "last_operator" if no other operator would remain.
        """
        if not _NAME.fullmatch(name):
            raise AccessError(
                f"{name[:64]!r} is not a name: 1 to 64 of A-Z a-z 0-9 . _ @ -", code="bad_name"
            )
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._transaction() as db:
            if role is not Role.OPERATOR:
                _keep_an_operator(db, name)
            db.execute("delete from links where name = ? or expires < ?", (name, now))
            db.execute(
                "insert into links values(?,?,?,?)",
                (_sha256(token), name, role.value, now + LINK_S),
            )
            db.execute(
                "insert into users values(?,?,null,?) on conflict(name) do update set role = ?",
                (name, role.value, now, role.value),
            )
        return token

    def first_link(self) -> str | None:
        """Return the token of a link for the first operator; None once an operator can sign in."""
        with self._transaction() as db:
            if _operators(db):
                return None
        return self.link("operator", Role.OPERATOR)

    def link_name(self, token: str) -> str | None:
        """Return the user that a link is for, None if it is used, replaced or too old."""
        with self._transaction() as db:
            row = db.execute(
                "select name from links where token = ? and expires >= ?",
                (_sha256(token), self._clock()),
            ).fetchone()
        return row[0] if row else None

    def use_link(self, token: str, password: str) -> tuple[str, str]:
        """Set the password and end the user's other sessions.

        Returns:
            The user's name and the id of a new session.

        Raises:
            AccessError: "bad_link" or "bad_password"; the link remains valid then.
        """
        check_new(password)
        digest = password_hash(password)
        with self._transaction() as db:
            row = db.execute(
                "delete from links where token = ? and expires >= ? returning name",
                (_sha256(token), self._clock()),
            ).fetchone()
            if row is None:
                raise AccessError("this link was used, replaced or is too old", code="bad_link")
            name: str = row[0]
            db.execute("update users set password = ? where name = ?", (digest, name))
            db.execute("delete from sessions where name = ?", (name,))
        self._attempts.succeeded(name)
        return name, self._begin_session(name)

    def remove(self, name: str) -> None:
        """Remove a user with all sessions and links.

        Raises:
            AccessError: "last_operator" if no other operator could sign in.
        """
        with self._transaction() as db:
            _keep_an_operator(db, name)
            for table in ("users", "sessions", "links"):
                db.execute(f"delete from {table} where name = ?", (name,))  # noqa: S608

    def record(
        self, user: str, action: str, subject: str = "", *, detail: str = "", address: str = ""
    ) -> None:
        """Append a line to the audit log; the oldest of more than 100,000 lines is dropped."""
        with self._transaction() as db:
            n = db.execute(
                "insert into audit(at, user, action, subject, detail, address) values(?,?,?,?,?,?)",
                (self._clock(), user[:64], action, subject[:200], detail[:2000], address[:64]),
            ).lastrowid
            db.execute("delete from audit where n <= ?", ((n or 0) - _AUDIT_ROWS,))

    def audit(self, first: int = 0, count: int = 50) -> list[Entry]:
        """Return lines of the audit log, newest first."""
        with self._transaction() as db:
            rows = db.execute(
                "select at, user, action, subject, detail, address from audit"
                " order by n desc limit ? offset ?",
                (count, first),
            ).fetchall()
        return [
            Entry(at=at, user=user, action=action, subject=subject, detail=detail, address=address)
            for at, user, action, subject, detail, address in rows
        ]

    def _begin_session(self, name: str) -> str:
        session, now = secrets.token_urlsafe(32), self._clock()
        with self._transaction() as db:
            db.execute(
                "delete from sessions where created < ? or seen < ?",
                (now - SESSION_S, now - IDLE_S),
            )
            db.execute("insert into sessions values(?,?,?,?)", (_sha256(session), name, now, now))
        return session


def _operators(db: sqlite3.Connection) -> set[str]:
    rows = db.execute("select name from users where role = 'operator' and password is not null")
    return {row[0] for row in rows}


def _keep_an_operator(db: sqlite3.Connection, name: str) -> None:
    if _operators(db) == {name}:
        raise AccessError(f"{name} is the only operator", code="last_operator")


def _sha256(token: str) -> str:
    """Return what is stored of a secret, so that a copy of the database opens no session."""
    return hashlib.sha256(token.encode()).hexdigest()
