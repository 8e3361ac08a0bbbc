"""The shipped board files, how a board is recognized, and what its file changes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from agent import config
from agent.config import boards as board_files
from agent.config import checks
from agent.config.boards import board, boards, device_tree, read_board_file
from agent.core.errors import ConfigError
from agent.wiring.boards import excluded
from tests.support.unreadable import not_now

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(
    ("strings", "name"),
    [
        ("nvidia,p3737-0000+p3701-0000 nvidia,p3701-0000", "agx-orin-devkit-32gb"),
        ("nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005", "agx-orin-64gb"),
        ("nvidia,p3768-0000+p3767-0001-super nvidia,p3767-0001", "orin-nx-8gb-super"),
        ("nvidia,p3509-0000+p3767-0001 nvidia,p3767-0001", "orin-nx-8gb"),
        ("nvidia,p3737-0000+p3701-0000-as-p3767-0000", "orin-nx-16gb"),  # emulated by the kit
        ("nvidia,p4071-0000+p3834-0008 nvidia,p3834-0008", "agx-thor"),
        ("nvidia,p3971-0050+p3834-0005 nvidia,p3834-0005", "agx-thor"),
        ("nvidia,p4071-0000+p3834-0000 nvidia,p3834-0000", "agx-thor-t4000"),
        ("nvidia,p3768-0000+p3767-0004 nvidia,p3767-0004", "orin-nano-4gb"),
        ("nvidia,p3768-0000+p3767-0004-super nvidia,p3767-0004", "orin-nano-4gb-super"),
        ("nvidia,p3740-0002+p3701-0008 nvidia,p3701-0008", "agx-orin-industrial"),
    ],
)
def test_what_jetson_linux_writes_into_the_device_tree_is_recognized(strings, name):
    found = board("auto", (*strings.split(), "nvidia,tegra234"))
    assert found is not None
    assert found.id == name


def test_the_first_kit_has_the_memory_of_one_module_and_the_gpu_of_the_other():
    kit, small, large = (SHIPPED[f"agx-orin-{name}"] for name in ("devkit-32gb", "32gb", "64gb"))
    assert (kit.memory_mb, kit.peak, kit.power_modes) == (
        small.memory_mb,
        large.peak,
        large.power_modes,
    )


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.endswith("-super")])
def test_super_is_the_same_module_with_more_power(name):
    plain, more = SHIPPED[name.removesuffix("-super")], SHIPPED[name]
    assert more.compatible == tuple(f"{ending}-super" for ending in plain.compatible)
    assert (more.dla_cores, more.memory_mb, more.power) == (
        plain.dla_cores,
        plain.memory_mb,
        plain.power,
    )
    assert more.peak.int8_sparse_tops > plain.peak.int8_sparse_tops


@pytest.mark.parametrize("name", SHIPPED)
def test_every_fact_has_a_source(name):
    found = SHIPPED[name]
    assert {"compute_capability", "peak", "power"} <= set(found.sources)
    assert bool(found.power_modes) == ("power_modes" in found.sources)
    assert found.power.not_in_it


@pytest.mark.parametrize("name", SHIPPED)
def test_the_most_that_a_board_draws_has_its_source_and_is_above_all_its_power_modes(name):
    found = SHIPPED[name]
    assert (found.power.maximum_w is None) == ("maximum_w" not in found.sources)
    modes = [int(w) for mode in found.power_modes for w in re.findall(r"([0-9]+)W", mode)]
    assert found.power.maximum_w is None or found.power.maximum_w > 1.5 * max(modes, default=0)


@pytest.mark.parametrize("compatible", [(), ("raspberrypi,5-model-b",)])
def test_another_machine_is_no_board(compatible):
    assert board("auto", compatible) is None


def test_the_device_tree_is_strings_that_end_with_zeros(tmp_path):
    assert device_tree(tmp_path) == ()
    file = tmp_path / "proc/device-tree/compatible"
    file.parent.mkdir(parents=True)
    file.write_bytes("\0".join((*SUPER, "")).encode())
    assert device_tree(tmp_path) == SUPER
    with not_now(file):
        assert device_tree(tmp_path) == ()


def test_an_unknown_name_is_an_error_with_the_nearest_one():
    with pytest.raises(ConfigError, match="orin-nan") as caught:
        board("orin-nan")
    assert "did you mean orin-nano?" in caught.value.hint


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


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("dla_cores = 0", "dla_cores = -1"),
        ("memory_mb = 8192", "memory_mb = 0"),
        ("memory_gb_per_s = 68", "memory_gb_per_s = nan"),
        ("memory_gb_per_s = 68", "memory_gb_per_s = inf"),
        ("int8_sparse_tops = 40", "int8_sparse_tops = -40"),
        ("maximum_w = 100", "maximum_w = 0"),
        ('compute_capability = "8.7"', 'compute_capability = "Ampere"'),
        ('"p3767-0003", ', '"", '),  # every string ends with it
        ('name = "Jetson Orin Nano 8 GB"', 'name = ""'),
    ],
)
def test_a_fact_that_can_not_be_is_refused(tmp_path, right, wrong):
    text = (board_files.folder() / "orin-nano.toml").read_text()
    assert right in text
    (tmp_path / "mine.toml").write_text(text.replace(right, wrong))
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        read_board_file(tmp_path / "mine.toml")


def test_the_wheel_has_the_board_files_beside_the_code_that_reads_them():
    """They must be found however it is installed: --user and --target put data elsewhere."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    inside = build["targets"]["wheel"]["force-include"]["configs/boards"]
    code = Path(board_files.__file__).relative_to(ROOT)
    assert Path(inside).parent == code.parent


def test_installed_files_are_read_and_missing_ones_are_an_error(tmp_path, monkeypatch):
    code = tmp_path / "site-packages/agent/config/boards.py"
    monkeypatch.setattr(board_files, "__file__", str(code))
    with pytest.raises(ConfigError, match="board_files") as caught:
        boards()
    assert "install" in caught.value.hint
    inside = code.with_name("board_files")
    inside.mkdir(parents=True)
    (inside / "mine.toml").write_text((ROOT / "configs/boards/orin-nano.toml").read_text())
    assert list(boards()) == ["mine"]


def test_a_power_mode_that_nvpmodel_has_is_not_refused_by_a_file(tmp_path, monkeypatch):
    """A later Jetson Linux has more of them, and users add their own."""
    (tmp_path / "nvpmodel.conf").touch()
    monkeypatch.setattr(checks, "_NVPMODEL", tmp_path / "nvpmodel.conf")
    file = tmp_path / "quantd.toml"
    file.write_text('[device]\nboard = "orin-nano"\n[search]\npower_modes = ["MINE"]\n')
    assert config.load(file).search.power_modes == ("MINE",)


def test_a_power_mode_that_a_named_board_lacks_is_refused(tmp_path):
    file = tmp_path / "quantd.toml"
    file.write_text('[device]\nboard = "orin-nano"\n[search]\npower_modes = ["15W", "25W"]\n')
    with pytest.raises(ConfigError, match="25W") as caught:
        config.load(file)
    assert "15W, 7W" in caught.value.hint


def test_a_power_mode_is_not_refused_where_no_source_names_those_of_the_board(tmp_path):
    file = tmp_path / "quantd.toml"
    file.write_text('[device]\nboard = "agx-orin-industrial"\n[search]\npower_modes = ["MAXN"]\n')
    assert config.load(file).search.power_modes == ("MAXN",)


def test_a_rail_has_what_it_leaves_out():
    nano = of(device={"board": "orin-nano"})
    assert "carrier board" in excluded(nano, "VDD_IN")
    assert "VDD_IN" in excluded(nano, "sum:VDD_CPU_GPU_CV+VDD_SOC")
    orin = of(device={"board": "agx-orin-64gb"})
    assert "twice" in excluded(orin, "sum:VDDQ_VDD2_1V8AO+VDD_CPU_CV+VDD_GPU_SOC+VIN_SYS_5V0")
    assert excluded(of(), "package-0") == ""
