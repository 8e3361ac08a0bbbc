"""How to install what is missing: commands that work as printed on this machine."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

_DISTRIBUTIONS = {
    "cv2": "opencv-python",
    "jtop": "jetson-stats",
    "nacl": "pynacl",
    "paho": "paho-mqtt",
    "pynvml": "nvidia-ml-py",
    "skvideo": "scikit-video",
}  # of modules with another name
_OF_THE_SYSTEM = {
    "gi": "sudo apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good",
    "tensorrt": "sudo apt install python3-libnvinfer",
}
_LIBRARIES = {
    "libGL": "libgl1",
    "libSM": "libsm6",
    "libX11": "libx11-6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
    "libglib-2": "libglib2.0-0",
    "libgomp": "libgomp1",
    "libgthread-2": "libglib2.0-0",
    "libstdc++": "libstdc++6",
    "libxcb": "libxcb1",
}  # and their packages in Debian and Ubuntu
_OF_JETPACK = re.compile(r"lib(nv|cu)")


def pip_install(*requirements: str, options: str = "", path: str = "") -> str:
    """Return the command that installs packages into this environment.

    Args:
        requirements: Names, or names with versions; a plain name gets the versions that quantd
            requires.
        options: Of `pip install`.
        path: A folder to look for programs in first, for what is compiled; sudo resets the path.
    """
    wanted = [_requirement(one) for one in requirements]
    return _pip_command(["install", *options.split(), *wanted], path)


def pip_uninstall(*distributions: str) -> str:
    """Return the command that removes packages from this environment."""
    return _pip_command(["uninstall", "--yes", *distributions])


def installer() -> str:
    """Return the path of systemd/install.sh, of this environment or of the source that is run."""
    here = Path(sys.prefix, "share", "quantd")
    if not here.is_dir():
        here = Path(__file__).parents[1]
    return shlex.quote(str(here / "systemd" / "install.sh"))


def import_hint(error: ImportError) -> str:
    """Return the command that makes an import work: by apt for libraries of the system."""
    library = re.search(r"(lib[\w+.-]+?)(\.\d+)*\.so\b[.\d]*", str(error))
    if library:
        return _library_hint(library.group(0), library.group(1))
    module = (error.name or "").split(".")[0]
    if not module:
        return f"`{_pip()} check` shows which package is incomplete"
    return module_hint(module)


def module_hint(module: str) -> str:
    """Return the command that installs a module of Python, again if it is there and broken."""
    if module in _OF_THE_SYSTEM:
        return f"`{_OF_THE_SYSTEM[module]}`"
    distribution = _DISTRIBUTIONS.get(module, module)
    if module == "onnxruntime" and installed_version("onnxruntime-gpu"):
        distribution = "onnxruntime-gpu"
    if installed_version(distribution):
        return pip_install(distribution, options="--force-reinstall --no-deps")
    return pip_install(distribution)


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, None if it isn't installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _library_hint(file: str, name: str) -> str:
    if name in _LIBRARIES:
        return f"`sudo apt install {_LIBRARIES[name]}`"
    if _OF_JETPACK.match(name):
        return f"{file} comes with the driver, CUDA or JetPack: `sudo apt install nvidia-jetpack`"
    return f"`apt-file search {shlex.quote(file)}` names its package; install that with apt"


def _pip_command(words: Sequence[str], path: str = "") -> str:
    first = "" if os.access(sys.prefix, os.W_OK) else "sudo "
    if path:
        first = f"{first and 'sudo env '}PATH={path}:$PATH "
    return f"`{first}{_pip()} {shlex.join(words)}`"


def _pip() -> str:
    pip = Path(sys.prefix, "bin", "pip")
    return shlex.quote(str(pip)) if pip.exists() else f"{shlex.quote(sys.executable)} -m pip"


def _requirement(name: str) -> str:
    """Return the name with the versions that quantd requires, in whichever extra."""
    try:
        all_of_them = requires("quantd") or []
    except PackageNotFoundError:  # run from its source
        return name
    wanted = [one.partition(";")[0].strip() for one in all_of_them]
    return next((one for one in wanted if re.split(r"[<>=!~\[ ]", one)[0] == name), name)
