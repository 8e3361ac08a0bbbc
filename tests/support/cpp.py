"""The C++ example, compiled with the command of its README, where compiler, headers and library can be had."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import onnxruntime

from tests.support.parts import missing_part

SOURCES = Path(__file__).parents[2] / "agent/client/examples/cpp"
_INCLUDE = (Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime"))
_NEEDS = {
    "g++": "g++",
    "/usr/include/nlohmann/json.hpp": "nlohmann-json3-dev",
    "/usr/include/opencv4/opencv2/imgcodecs.hpp": "libopencv-imgcodecs-dev",
    "/usr/include/opencv4/opencv2/videoio.hpp": "libopencv-videoio-dev",
}


def compiled(folder: Path) -> Path:
    """Return the compiled example in a folder.

    ONNX Runtime's headers are Debian's; the library is the one in the wheel of this environment.
    """
    for needed, package in _NEEDS.items():
        if not (shutil.which(needed) or Path(needed).exists()):
            missing_part("C++ example", f"apt install {package}")
    headers = next((path for path in _INCLUDE if path.is_dir()), None)
    if headers is None:
        missing_part("C++ example", "libonnxruntime-dev of Debian 13; see .ci/run")
    libraries = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    wanted = re.search(r"ORT_API_VERSION (\d+)", (headers / "onnxruntime_c_api.h").read_text())
    assert wanted is not None
    if not libraries or int(onnxruntime.__version__.split(".")[1]) < int(wanted[1]):
        missing_part("C++ example", f"a wheel of onnxruntime 1.{wanted[1]} or newer")
    (folder / "lib").mkdir(parents=True)
    (folder / "include").symlink_to(headers)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(libraries[-1])
    text = (SOURCES.parent / "README.md").read_text()
    (command,) = re.findall(r"^g\+\+ (?:.*\\\n)*.*", text, re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", f"ORT='{folder}'; {command} -Wall -Wextra -Werror -o '{folder}/camera'"],
        cwd=SOURCES, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "camera"
