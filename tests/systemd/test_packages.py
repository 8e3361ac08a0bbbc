"""What install.sh does beside the unit: quantd's packages, and the service of jetson-stats."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JTOP = "etc/systemd/system/jtop.service"
OURS = "etc/systemd/system/jtop.service.d/quantd.conf"
USERS = "etc/sysusers.d/quantd-jtop.conf"

pytestmark = pytest.mark.slow


def executable(path: Path, body: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def installer(*options, script=ROOT / "systemd/install.sh", path="", **environment):
    return subprocess.run(
        ["sh", str(script), *map(str, options)],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}", **environment},
    )  # fmt: skip


@pytest.fixture
def image(tmp_path):
    """A root folder with quantd and jetson-stats in /opt/quantd."""
    executable(tmp_path / "image/opt/quantd/bin/quantd")
    executable(tmp_path / "image/opt/quantd/bin/jtop")
    return tmp_path / "image"


def test_jtop_s_service_starts_what_lies_in_the_prefix(image):
    """`jtop --install-service` writes /usr/local/bin/jtop, which is not there."""
    for _ in range(2):
        done = installer("--root", image, "--jtop")
        assert done.returncode == 0, done.stderr
        assert "\nExecStart=/opt/quantd/bin/jtop --force\n" in (image / JTOP).read_text()
    assert "m quantd jtop" in (image / USERS).read_text()
    wanted = image / "etc/systemd/system/multi-user.target.wants/jtop.service"
    assert wanted.readlink() == Path(f"/{JTOP}")
    assert installer("--root", image, "--uninstall").returncode == 0
    left = {path.name for path in (image / "etc").rglob("*") if path.is_file() or path.is_symlink()}
    assert left == {"quantd.toml"}


def test_a_unit_that_starts_nothing_gets_a_drop_in(image):
    (image / JTOP).parent.mkdir(parents=True)
    (image / JTOP).write_text("[Service]\nExecStart=/usr/local/bin/jtop --force\n")
    before = (image / JTOP).read_text()
    for _ in range(2):
        done = installer("--root", image, "--jtop")
        assert done.returncode == 0, done.stderr
    assert "/usr/local/bin/jtop, which does not exist" in done.stdout or "unchanged" in done.stdout
    assert (image / JTOP).read_text() == before
    assert "\nExecStart=\nExecStart=/opt/quantd/bin/jtop --force\n" in (image / OURS).read_text()
    assert installer("--root", image, "--uninstall").returncode == 0
    assert ((image / JTOP).exists(), (image / OURS).exists()) == (True, False)


@pytest.mark.parametrize("folder", ["etc", "lib"])
def test_a_service_that_starts_is_left_as_it_is(image, folder):
    executable(image / "usr/local/bin/jtop")
    unit = image / folder / "systemd/system/jtop.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=-/usr/local/bin/jtop --force\n")
    (image / "opt/quantd/bin/jtop").unlink()  # the service's is enough
    done = installer("--root", image, "--jtop")
    assert done.returncode == 0, done.stderr
    assert not (image / OURS).exists()
    assert (image / JTOP).exists() == (folder == "etc")
    assert (image / USERS).exists()


@pytest.mark.parametrize("option", [[], ["--root"]])
def test_without_jetson_stats_nothing_is_written(tmp_path, image, option):
    (image / "opt/quantd/bin/jtop").unlink()
    tools = tmp_path / "tools"
    executable(tools / "id", "echo 0")
    for name in ("mkdir", "mktemp", "mv", "systemctl", "systemd-sysusers"):
        executable(tools / name, f"echo {name} >>{tmp_path}/written; exit 1")
    where = [*option, image] if option else ["--prefix", image / "opt/quantd"]
    done = installer("--jtop", *where, path=tools)
    assert done.returncode == 1
    assert "bin/pip install jetson-stats" in done.stderr
    assert not (tmp_path / "written").exists()
    assert not (image / "etc").exists()


PIP = """
echo "pip $*" >>{log}
case "$*" in
  show*) grep -qx "${{4:-$3}}" {installed} ;;
  *uninstall*) : >{installed} ;;
  *tensorrt*) exit {compiles} ;;
  *) touch {prefix}/bin/quantd; chmod +x {prefix}/bin/quantd ;;
esac
"""


class Packages:
    """install.sh --packages of a checkout, with a pip that records; the unit goes nowhere."""

    def __init__(self, folder: Path, *, compiles: bool = True, installed: str = "") -> None:
        self.log, self.prefix = folder / "log", folder / "opt"
        self.tools = folder / "tools"
        (folder / "installed").write_text(installed)
        pip = PIP.format(
            log=self.log, prefix=self.prefix, compiles=int(not compiles),
            installed=folder / "installed",
        )  # fmt: skip
        body = f"mkdir -p {self.prefix}/bin; cp {folder}/pip {self.prefix}/bin/pip"
        executable(folder / "pip", pip)
        executable(self.tools / "python3", f'echo "python3 $*" >>{self.log}; {body}')
        executable(self.tools / "id", "echo 0")
        # ends where the unit would be written, into this machine's /etc
        executable(self.tools / "mktemp", "exit 9")

    def run(self, *options: object, cuda: Path) -> tuple[subprocess.CompletedProcess[str], str]:
        done = installer(
            "--packages", "--prefix", self.prefix, *options, path=self.tools, CUDA_ROOT=str(cuda)
        )
        return done, self.log.read_text()


@pytest.mark.parametrize("compiles", [True, False])
def test_what_has_wheels_comes_first_and_pycuda_alone_where_it_can_be_compiled(tmp_path, compiles):
    header = tmp_path / "cuda/include/cuda.h"
    header.parent.mkdir(parents=True)
    header.touch()
    packages = Packages(tmp_path, compiles=compiles)
    done, log = packages.run(cuda=tmp_path / "cuda")
    assert done.returncode == 9, done.stderr
    assert f"python3 -m venv --system-site-packages {packages.prefix}" in log
    installs = [line.split()[-1] for line in log.splitlines() if " install " in line]
    assert installs == [f"{ROOT}[cpu]", f"{ROOT}[tensorrt]"]
    assert ("PyCUDA was not installed" in done.stderr) == (not compiles)


def test_without_cuda_s_headers_nothing_is_compiled(tmp_path):
    done, log = Packages(tmp_path).run(cuda=tmp_path / "nowhere")
    assert done.returncode == 9, done.stderr
    assert "tensorrt" not in log


@pytest.mark.parametrize(
    ("installed", "options", "extra", "removed"),
    [
        ("", (), "cpu", False),
        ("onnxruntime\n", (), "cpu", False),
        ("onnxruntime-gpu\n", (), "gpu", False),
        ("onnxruntime\nonnxruntime-gpu\n", (), "gpu", True),
        ("onnxruntime\n", ("--gpu",), "gpu", True),
    ],
)
def test_there_is_one_onnx_runtime(tmp_path, installed, options, extra, removed):
    packages = Packages(tmp_path, installed=installed)
    subprocess.run([str(packages.tools / "python3")], check=True)
    _, log = packages.run(*options, cuda=tmp_path / "nowhere")
    assert f"{ROOT}[{extra}]" in log
    assert ("uninstall" in log) == removed


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--packages", "--root", "image"], "--root"), (["--gpu"], "--packages")],
)
def test_options_that_exclude_each_other_are_an_error_and_not_ignored(options, words):
    done = installer(*options)
    assert done.returncode == 2
    assert words in done.stderr


def test_packages_come_from_a_checkout_only(tmp_path):
    folder = tmp_path / "opt/quantd/share/quantd/systemd"
    folder.mkdir(parents=True)
    script = folder / "install.sh"
    script.write_text((ROOT / "systemd/install.sh").read_text())
    executable(tmp_path / "tools/id", "echo 0")
    done = installer("--packages", script=script, path=tmp_path / "tools")
    assert done.returncode == 1
    assert "systemd/install.sh of one" in done.stderr
