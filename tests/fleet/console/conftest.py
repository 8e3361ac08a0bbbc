"""A console over a small simulated fleet."""

from __future__ import annotations

import pytest

from agent.fleet.console import passwords
from agent.fleet.console.accounts import Accounts, Role
from agent.fleet.console.app import app
from agent.fleet.console.commands import Commands
from agent.fleet.console.routing import Console
from agent.fleet.storage.sqlite import SqliteFleetStore
from tests.support import simulated_fleet
from tests.support.web import Visitor, rendering

PASSWORD = "correct horse battery"


class Clock:
    """A wall clock that stands still until it is set."""

    now = simulated_fleet.NOW_S

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def quick_hashes(monkeypatch):
    """Hash with little memory: how strong scrypt is has its own test."""
    monkeypatch.setattr(passwords, "_LOG2_N", 4)


@pytest.fixture
def accounts(tmp_path, clock, quick_hashes):
    found = Accounts(tmp_path / "console.db", clock)
    yield found
    found.close()


@pytest.fixture
def store(tmp_path):
    found = SqliteFleetStore(str(tmp_path / "fleet.db"))
    yield found
    found.close()


@pytest.fixture
def commands(tmp_path, clock):
    found = Commands(tmp_path / "console.db", clock)
    yield found
    found.close()


@pytest.fixture
def woken():
    return []


@pytest.fixture
def made(accounts, commands, store, clock, woken):
    """Return a console from how it is served."""

    def make(serving=None):
        given = {} if serving is None else {"serving": serving}
        return Console(
            accounts=accounts,
            commands=commands,
            store=store,
            clock=clock,
            rendering=rendering(),
            wake=lambda: woken.append(1),
            **given,
        )

    return make


@pytest.fixture
def signed_in(accounts, made):
    """Return a visitor in a role; None is anybody."""

    def sign_in(role, name="kim"):
        visitor = Visitor(app=app(made()))
        if role is not None:
            _, session = accounts.use_link(accounts.link(name, role), PASSWORD)
            visitor.cookies["quantd"] = session
        return visitor

    return sign_in


@pytest.fixture
def viewer(signed_in):
    return signed_in(Role.VIEWER)
