"""The timing cache: kept, found again, and never in the way of a build."""

from __future__ import annotations

import logging

import pytest

from agent.engines.tensorrt import (
    capability,
    find_tensorrt,
    make_logger,
    without_garbage_collection,
)
from agent.engines.timings import TimingCache
from tests.support.engine_builds import CAPABILITY, require_tensorrt
from tests.support.quant_graphs import detector

KEY = ("10.3.0", "Orin (nvgpu)", "540.4.0 36.4.3")


class Cache:
    """A timing cache of TensorRT's, as bytes."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def serialize(self) -> bytes:
        return self.body


class BuilderConfig:
    """Takes timing caches as an IBuilderConfig does; refuses bytes that say "foreign"."""

    def __init__(self, mismatch: bool = False) -> None:
        self.cache: Cache | None = None
        self.mismatch = mismatch

    def create_timing_cache(self, body: bytes) -> Cache | None:
        return None if body == b"foreign" else Cache(body)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        if self.mismatch and cache.body and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache | None:
        return self.cache


def known(tmp_path, key=KEY, **kind):
    config = BuilderConfig(**kind)
    TimingCache(str(tmp_path / "timings"), *key).attach(config)
    assert config.cache is not None
    return config.cache.body


def keep(tmp_path, body, key=KEY):
    config = BuilderConfig()
    config.cache = Cache(body)
    cache = TimingCache(str(tmp_path / "timings"), *key)
    cache.save(config)
    return cache.path


def test_the_first_build_begins_with_nothing_and_the_next_with_what_it_left(tmp_path, caplog):
    assert known(tmp_path) == b""
    keep(tmp_path, b"timings")
    assert known(tmp_path) == b"timings"
    keep(tmp_path, b"more timings")
    assert known(tmp_path) == b"more timings"
    assert not caplog.records
    assert [path.suffix for path in (tmp_path / "timings").iterdir()] == [".timings"]


@pytest.mark.parametrize("place", range(3))
def test_another_version_gpu_or_driver_has_its_own(tmp_path, place):
    keep(tmp_path, b"timings")
    other = tuple("other" if index == place else part for index, part in enumerate(KEY))
    assert known(tmp_path, other) == b""
    assert known(tmp_path) == b"timings"


@pytest.mark.parametrize("length", [0, 5, 30, -1])
def test_a_truncated_file_is_dropped_with_a_warning(tmp_path, caplog, length):
    path = keep(tmp_path, b"timings")
    path.write_bytes(path.read_bytes()[:length])
    assert known(tmp_path) == b""
    assert "timing_cache_dropped" in caplog.text
    keep(tmp_path, b"anew")
    assert known(tmp_path) == b"anew"


def test_a_damaged_or_foreign_file_is_dropped_with_a_warning(tmp_path, caplog):
    path = keep(tmp_path, b"timings")
    body = path.read_bytes()
    for wrong in (body[:-1] + b"x", b"\0" * 500, body.replace(b"cache 1", b"cache 2")):
        caplog.clear()
        path.write_bytes(wrong)
        assert known(tmp_path) == b""
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
    elsewhere = keep(tmp_path, b"timings", ("10.4", "x", "y"))
    path.write_bytes(elsewhere.read_bytes())
    assert known(tmp_path) == b""


def test_what_tensorrt_refuses_is_dropped_with_a_warning(tmp_path, caplog):
    keep(tmp_path, b"foreign")
    assert known(tmp_path) == b""
    keep(tmp_path, b"timings")
    assert known(tmp_path, mismatch=True) == b""
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_folder_that_can_not_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "timings").write_text("a file")
    assert known(tmp_path) == b""
    keep(tmp_path, b"timings")
    assert "timing_cache_not_kept" in caplog.text


def test_what_a_killed_build_left_is_cleared(tmp_path):
    path = keep(tmp_path, b"timings")
    left = path.with_name(f".{path.name}-x1y2")
    left.write_bytes(b"half")
    keep(tmp_path, b"timings")
    assert not left.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")
@without_garbage_collection()
def test_the_real_builder_takes_and_gives_it(tmp_path):
    require_tensorrt()
    trt = find_tensorrt(cross=True)
    logger = make_logger(trt)
    cache = TimingCache(str(tmp_path / "timings"), *KEY)
    for damage in (None, None, b"\xff" * 100):
        if damage:
            keep(tmp_path, damage)  # whole for quantd, nonsense for TensorRT
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        assert parser.parse_from_file(detector(tmp_path / "model.onnx"))
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability(trt, CAPABILITY), 0)
        cache.attach(config)
        assert builder.build_serialized_network(network, config) is not None
        cache.save(config)
        assert cache.path.stat().st_size > 100
