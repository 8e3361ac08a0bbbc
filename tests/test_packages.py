"""Commands that install what is missing: right as printed, for the environment that runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from agent import packages
from agent.packages import import_hint, installer, module_hint, pip_install


@pytest.fixture
def prefix(monkeypatch, tmp_path):
    """An environment with pip, at a path that a shell would split."""
    folder = tmp_path / "my env"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/pip").touch()
    monkeypatch.setattr(sys, "prefix", str(folder))
    return folder


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("libGL.so.1: cannot open shared object file: No such file", "sudo apt install libgl1"),
        ("libgthread-2.0.so.0: cannot open shared object file", "sudo apt install libglib2.0-0"),
        ("libstdc++.so.6: version `GLIBCXX_3.4.30' not found", "sudo apt install libstdc++6"),
        ("libcudart.so.12: cannot open shared object", "sudo apt install nvidia-jetpack"),
        ("libcublasLt.so.13: cannot open shared object", "sudo apt install nvidia-jetpack"),
        ("libnvinfer.so.10: cannot open shared object", "sudo apt install nvidia-jetpack"),
        ("libodd-1.2.so.7: cannot open shared object", "apt-file search libodd-1.2.so.7"),
    ],
)
def test_a_library_of_the_system_is_installed_by_apt(message, command):
    assert f"`{command}`" in import_hint(ImportError(message))
    assert "pip" not in import_hint(ImportError(message))


def test_a_module_is_installed_by_the_pip_of_this_environment(prefix, monkeypatch):
    monkeypatch.setattr(packages, "installed_version", lambda _: None)
    hint = import_hint(ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    assert shlex.split(hint.strip("`"))[0] == str(prefix / "bin/pip")
    assert hint.endswith("install 'opencv-python>=4.9'`")
    assert module_hint(["onnx", "numpy_helper"][0]).endswith("install 'onnx>=1.17'`")
    assert "apt install python3-libnvinfer" in module_hint("tensorrt")
    assert " check`" in import_hint(ImportError("cannot import name 'x' from 'y'"))


def test_what_is_installed_and_broken_is_installed_again(prefix, monkeypatch):
    monkeypatch.setattr(packages, "installed_version", lambda _: "1.0")
    assert "--force-reinstall --no-deps 'opencv-python>=4.9'" in module_hint("cv2")
    assert "onnxruntime-gpu" in module_hint("onnxruntime")


def test_an_environment_of_root_needs_sudo_and_a_path_survives_it(prefix, monkeypatch):
    assert not pip_install("numpy").startswith("`sudo")
    monkeypatch.setattr(packages.os, "access", lambda *_: False)
    assert pip_install("numpy").startswith("`sudo ")
    assert pip_install("pycuda", path="/usr/local/cuda/bin").startswith(
        "`sudo env PATH=/usr/local/cuda/bin:$PATH "
    )


def test_an_environment_without_pip_s_command_uses_its_module(prefix):
    (prefix / "bin/pip").unlink()
    assert shlex.split(pip_install("numpy").strip("`"))[:3] == [sys.executable, "-m", "pip"]


def test_a_version_that_is_asked_for_stays(prefix):
    assert pip_install("jetson-stats==4.3.2").endswith("install jetson-stats==4.3.2`")


def test_the_installer_is_there(prefix):
    assert Path(installer()).is_file()
    (prefix / "share/quantd").mkdir(parents=True)
    assert shlex.split(installer()) == [str(prefix / "share/quantd/systemd/install.sh")]
