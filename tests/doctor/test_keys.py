from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from agent.config import Config
from agent.doctor import system
from agent.doctor.findings import Finding
from tests.support.keys import make_key


def test_each_key_for_commands_is_listed_with_why_it_is_not_accepted(tmp_path: Path) -> None:
    tables = {"mqtt": {"host": "b"}, "commands": {"keys_dir": str(tmp_path)}}

    def found() -> Finding:
        found = system.commands(msgspec.convert(tables, Config))
        assert found is not None
        return found

    (tmp_path / "empty.pem").write_text("")
    assert (found().level, "empty.pem contains no public key" in found().seen) == ("problem", True)
    make_key(tmp_path)
    assert found().level == "warning"
    assert found().seen.startswith("signed by demo-operator; not accepted: ")
    (tmp_path / "empty.pem").unlink()
    assert (found().level, found().seen) == ("ok", "signed by demo-operator")
    os.mkfifo(tmp_path / "fifo.pem", 0o600)
    assert "fifo.pem is not a regular file" in found().seen
    tmp_path.chmod(0o777)
    assert found().level == "problem"
    assert f"{tmp_path} can be written by others" in found().seen


def test_root_is_shown_what_the_service_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key written by root under umask 077 is one that only root can read."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    monkeypatch.setattr(system, "SERVICE_USER", "nobody")
    make_key(tmp_path)
    tables = {"mqtt": {"host": "b"}, "commands": {"keys_dir": str(tmp_path)}}
    for place, closed in ((tmp_path / "demo-operator.pem", 0o600), (tmp_path, 0o700)):
        before = place.stat().st_mode
        place.chmod(closed)
        found = system.commands(msgspec.convert(tables, Config))
        place.chmod(before)
        assert found is not None
        assert found.level != "ok", place
    assert os.geteuid() == 0
