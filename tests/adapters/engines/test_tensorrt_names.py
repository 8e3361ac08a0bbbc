"""No name that quantd uses of TensorRT is missing in a version that it claims to work with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.tensorrt import extract
from tests.support.parts import missing_part

FOLDER = Path(__file__).parents[2] / "fixtures" / "tensorrt"
VERSIONS = {path.stem.removeprefix("names-"): path for path in FOLDER.glob("names-*.txt")}
# Only TensorRT-RTX builds for a GPU that is not there; guarded by its ComputeCapability.
ONLY_RTX = {"num_compute_capabilities", "set_compute_capability"}
PYCUDA = {  # 2024.1 to 2026.1, src/wrapper/wrap_cudadrv.cpp and pycuda/driver.py
    "Device", "Error", "Event", "INTEGRATED", "MemoryError", "Stream", "compute_capability",
    "device_attribute", "get_attribute", "handle", "init", "mem_alloc", "mem_get_info",
    "memcpy_dtoh_async", "memcpy_htod_async", "pagelocked_empty", "push", "record",
    "retain_primary_context", "synchronize", "time_till",
}  # fmt: skip
ELSEWHERE = {  # of Python, NumPy, psutil, onnx and these modules themselves
    "IGNORECASE", "Process", "SerializeToString", "attach", "by", "callback", "close",
    "compile", "conditions", "copyto", "device", "disable", "dla_core", "dumps", "enable", "errors",
    "fullmatch", "getLogger", "hexdigest", "hint", "invert", "isenabled", "launch", "level",
    "load", "loads", "memory_info", "monotonic", "monotonic_ns", "on_dla", "outputs", "path",
    "pop_all", "reshape", "rss", "runnable", "save", "search", "sha256", "st_size", "strerror",
    "timings", "version", "view", "warning", "workspace_mb",
}  # fmt: skip


def known(path: Path) -> set[str]:
    return set(path.read_text("utf-8").split())


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Return all names of TensorRT, whichever version has them."""
    try:
        found = extract.of_rtx()
    except ImportError as e:
        missing_part("tensorrt-rtx", str(e))
    return found.union(*(known(path) for path in VERSIONS.values()))


def missing(in_use: set[str], version: str, names: set[str]) -> set[str]:
    """Return which names of TensorRT are not in a version; other attributes are not TensorRT's."""
    return (in_use & names) - known(VERSIONS[version]) - ONLY_RTX


def test_the_versions_of_jetpack_6_and_7_and_the_newest_are_there():
    assert {version.split(".")[0] + "." + version.split(".")[1] for version in VERSIONS} >= {
        "10.3",
        "10.13",
    }
    assert any(version.startswith("11.") for version in VERSIONS)


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_every_name_in_use_is_in_every_version(version, names):
    assert missing(extract.used(), version, names) == set()


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_every_name_read_from_the_module_is_in_every_version(version):
    """Also one that no version has: a typo is not another library's attribute."""
    found = extract.of_the_module()
    assert {"BuilderFlag", "GPU_FALLBACK", "nptype", "TensorIOMode", "INPUT"} <= found
    assert found - known(VERSIONS[version]) == set()


def test_every_other_attribute_is_known_to_be_one(names):
    assert extract.used() - names - PYCUDA - ELSEWHERE == set()


def test_every_name_in_use_is_in_tensorrt_rtx(names):
    assert (extract.used() & names) - extract.of_rtx() == set()


def test_what_a_version_lacks_is_found(names):
    """The older ways to set a precision are gone in 11; using one must not go unseen."""
    newest = max(VERSIONS, key=lambda version: int(version.split(".")[0]))
    oldest = min(VERSIONS, key=lambda version: int(version.split(".")[1]))
    assert missing({"IInt8Calibrator"}, newest, names) == {"IInt8Calibrator"}
    assert missing({"IInt8Calibrator", "splitlines"}, oldest, names) == set()


def test_the_names_in_use_are_found_in_the_source(names):
    assert {
        "STRONGLY_TYPED", "parse_from_file", "build_serialized_network", "execute_async_v3",
        "progress_monitor", "deserialize_cuda_engine", "INPUT",
    } <= extract.used() & names  # fmt: skip
