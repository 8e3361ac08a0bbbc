"""Power modes are set, read back and gone back from, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.adapters.host.board import power_mode as host_mode
from agent.adapters.power.nvpmodel import NvpModes, parse
from agent.core.errors import PowerError
from tests.support import nvpmodel
from tests.support.fakejetson.service import FakeJetson, require_namespace


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine in mode 15W whose user may set modes."""
    monkeypatch.setenv("PATH", f"{nvpmodel.install(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("agent.adapters.power.nvpmodel._READ_BACK_S", 0.5)
    return tmp_path


def modes(board: Path) -> NvpModes:
    return NvpModes(str(board / "state"), root=str(board))


def now(board: Path) -> str:
    return (board / "now").read_text().strip()


def test_modes_are_read_with_what_they_switch_off() -> None:
    assert [(m.number, m.name, m.gpu_mask) for m in parse(nvpmodel.CONF)] == [
        (0, "15W", "240"), (1, "25W", "240"), (3, "7W", "252"),
    ]  # fmt: skip
    assert parse("") == parse("< PM_CONFIG DEFAULT=1 >") == ()


def test_a_mode_in_a_comment_is_none_and_a_name_with_blanks_is_complete() -> None:
    conf = """
# < POWER_MODEL ID=9 NAME=EXAMPLE >
< POWER_MODEL ID=0 NAME=MODE 15 W >  # the default
# TPC_POWER_GATING TPC_PG_MASK 252
< POWER_MODEL ID=1 NAME=25W>
TPC_POWER_GATING TPC_PG_MASK 240
"""
    assert [(m.number, m.name, m.gpu_mask) for m in parse(conf)] == [
        (0, "MODE 15 W", ""), (1, "25W", "240"),
    ]  # fmt: skip


def test_a_mode_with_blanks_in_its_name_is_set_and_found(board: Path) -> None:
    conf = board / "etc/nvpmodel.conf"
    conf.write_text(conf.read_text().replace("NAME=25W", "NAME=MODE 25 W"))
    found = modes(board)
    with found.set_temporarily("MODE 25 W"):
        assert found.current() == "MODE 25 W"
        assert found.modes()["15W"] == ""
        assert host_mode() == "MODE 25 W"
    assert now(board) == "15W"


@pytest.mark.parametrize("present", ["15W", "25W"])
def test_a_mode_without_a_mask_is_not_reported_to_need_a_reboot(board: Path, present: str) -> None:
    conf = board / "etc/nvpmodel.conf"
    head, model, tail = conf.read_text().partition("< POWER_MODEL ID=1 NAME=25W >\n")
    conf.write_text(head + model + tail.replace("TPC_POWER_GATING TPC_PG_MASK 240\n", "", 1))
    (board / "now").write_text(f"{present}\n")
    found = modes(board).modes()
    assert (found["15W"], found["25W"]) == ("", "")
    assert bool(found["7W"]) == (present == "15W")


def test_a_mode_that_needs_a_reboot_is_reported_apart(board: Path) -> None:
    found = modes(board)
    assert found.current() == "15W"
    assert found.modes() == {"15W": "", "25W": "", "7W": "it takes effect after a reboot"}


def test_nvpmodel_is_asked_once(board: Path) -> None:
    (board / "now").write_text("7W\n")
    assert modes(board).modes()["15W"]
    assert (board / "calls").read_text().split() == ["-q"]


def test_a_machine_without_nvpmodel_has_none(tmp_path: Path) -> None:
    found = NvpModes(str(tmp_path), root=str(tmp_path))
    assert found.modes() == {}
    assert found.restore() == ""


def test_the_mode_that_was_found_is_set_again(board: Path) -> None:
    with modes(board).set_temporarily("25W"):
        assert now(board) == "25W"
        assert (board / "state/power-mode").read_text() == "15W"
    assert now(board) == "15W"
    assert not (board / "state/power-mode").exists()
    with pytest.raises(ValueError, match="of the stage"), modes(board).set_temporarily("25W"):
        raise ValueError("of the stage")
    assert now(board) == "15W"


def test_the_present_mode_is_kept_without_setting_anything(board: Path) -> None:
    with modes(board).set_temporarily("15W"):
        pass
    assert "-m" not in (board / "calls").read_text()


def test_a_mode_that_is_refused_in_silence_is_reported(board: Path) -> None:
    (board / "refuse").touch()
    with (
        pytest.raises(PowerError, match="25W was not set: NVPM ERROR") as raised,
        modes(board).set_temporarily("25W"),
    ):
        pass
    assert raised.value.code == "power_mode"
    assert "nvpmodel -m 1" in raised.value.hint


def test_a_mode_that_another_program_changes_meanwhile_is_an_error(board: Path) -> None:
    with pytest.raises(PowerError, match="from 25W to 7W"), modes(board).set_temporarily("25W"):
        (board / "now").write_text("7W\n")
    assert now(board) == "15W"


def test_a_mode_that_is_not_there_is_named_with_those_that_are(board: Path) -> None:
    with (
        pytest.raises(PowerError, match="no power mode 30W") as raised,
        modes(board).set_temporarily("30W"),
    ):
        pass
    assert "15W, 25W, 7W" in raised.value.hint


@pytest.mark.slow
def test_after_a_kill_the_mode_is_restored(board: Path) -> None:
    code = (
        "import sys, time, os; os.geteuid = lambda: 0\n"
        "from agent.adapters.power.nvpmodel import NvpModes\n"
        "with NvpModes(sys.argv[1], root=sys.argv[2]).set_temporarily('25W'): print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(board / "state"), str(board)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert now(board) == "25W"
    assert modes(board).restore() == "15W"
    assert now(board) == "15W"
    assert modes(board).restore() == ""


@pytest.mark.slow
@pytest.mark.parametrize("release", ["", "4.3.2"], ids=["newest", "4.3.2"])
def test_without_root_modes_are_set_through_the_jtop_service(
    board: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    require_namespace()
    if release:
        monkeypatch.setenv("PYTHONPATH", str(Path(sys.prefix, f"jetson-stats-{release}")))
    (board / "jetson").mkdir()
    with FakeJetson(board / "jetson", "orin-nano") as jetson:
        found = NvpModes(str(board / "state"), jetson.socket, str(board))
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr("agent.adapters.power.nvpmodel._READ_BACK_S", 5)
        with found.set_temporarily("25W"):
            assert now(board) == "25W"
        assert now(board) == "15W"


@pytest.mark.slow
def test_without_root_and_without_the_service_it_is_reported_what_is_needed(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = NvpModes(str(board / "state"), str(board / "none.sock"), str(board))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with (
        pytest.raises(PowerError, match=r"jtop\.service is not active") as raised,
        found.set_temporarily("25W"),
    ):
        pass
    assert "jtop service and its group" in raised.value.hint
