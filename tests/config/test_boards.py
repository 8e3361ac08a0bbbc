"""The shipped board files, how a board is recognized, and what its file changes."""

from __future__ import annotations

import pytest

from agent import config
from agent.config.boards import board, boards, device_tree
from agent.core.errors import ConfigError
from agent.wiring.boards import excluded

SUPER = ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234")
SHIPPED = boards()


def of(**tables):
    return config.from_dump(tables)


def test_the_boards_that_quantd_speaks_of_are_there():
    assert {"orin-nano", "orin-nano-super", "orin-nx-16gb", "agx-orin-64gb", "agx-thor"} <= set(
        SHIPPED
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_board_is_recognized_by_each_of_its_strings(name):
    for ending in SHIPPED[name].compatible:
        found = board("auto", (f"nvidia,p3768-0000+{ending}", "nvidia,tegra234"))
        assert found is not None
        assert found.id == name


def test_the_longest_string_wins():
    found = board("auto", SUPER)
    assert found is not None
    assert found.id == "orin-nano-super"
    assert set(found.power_modes) > set(SHIPPED["orin-nano"].power_modes)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_fact_has_a_source(name):
    found = SHIPPED[name]
    assert {"compute_capability", "peak", "power", "power_modes"} <= set(found.sources)
    assert found.power.not_in_it


@pytest.mark.parametrize("compatible", [(), ("raspberrypi,5-model-b",)])
def test_another_machine_is_no_board(compatible):
    assert board("auto", compatible) is None


def test_the_device_tree_is_strings_that_end_with_zeros(tmp_path):
    assert device_tree(tmp_path) == ()
    file = tmp_path / "proc/device-tree/compatible"
    file.parent.mkdir(parents=True)
    file.write_bytes("\0".join((*SUPER, "")).encode())
    assert device_tree(tmp_path) == SUPER


def test_a_name_that_is_not_known_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="orin-nan") as told:
        board("orin-nan")
    assert "did you mean orin-nano?" in told.value.hint


def test_a_board_of_ones_own_is_a_file_beside_the_configuration(tmp_path):
    text = (config.boards.folder() / "orin-nano.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("Jetson Orin Nano 8 GB", "Mine"))
    file = tmp_path / "quantd.toml"
    file.write_text('[device]\nboard = "mine.toml"\n')
    found = board(config.load(file).device.board)
    assert found is not None
    assert found.id == "mine"
    (tmp_path / "mine.toml").write_text("colour = 'green'\n" + text)
    with pytest.raises(ConfigError, match="colour"):
        config.load(file)


def test_a_power_mode_that_a_named_board_lacks_is_refused(tmp_path):
    file = tmp_path / "quantd.toml"
    file.write_text('[device]\nboard = "orin-nano"\n[search]\npower_modes = ["15W", "25W"]\n')
    with pytest.raises(ConfigError, match="25W") as told:
        config.load(file)
    assert "15W, 7W" in told.value.hint


def test_a_rail_says_what_it_leaves_out():
    nano = of(device={"board": "orin-nano"})
    assert "carrier board" in excluded(nano, "VDD_IN")
    assert "VDD_IN" in excluded(nano, "sum:VDD_CPU_GPU_CV+VDD_SOC")
    orin = of(device={"board": "agx-orin-64gb"})
    assert "twice" in excluded(orin, "sum:VDDQ_VDD2_1V8AO+VDD_CPU_CV+VDD_GPU_SOC+VIN_SYS_5V0")
    assert excluded(of(), "package-0") == ""
