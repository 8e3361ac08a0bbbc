"""What is kept of TensorRT's messages."""

from __future__ import annotations

import pytest

from agent.engines.tensorrt import find_tensorrt, make_logger
from tests.fakes import gpu


@pytest.fixture
def logger(monkeypatch):
    gpu.install(monkeypatch)
    return make_logger(find_tensorrt())


def test_the_last_errors_are_reported(logger):
    assert logger.errors() == "no reason given"
    for severity, message in ((1, "a"), (3, "all is well"), (0, "b"), (1, "c"), (1, "d")):
        logger.log(severity, message)
    assert logger.errors() == "b; c; d"


def test_what_the_builder_puts_on_an_accelerator_is_counted(logger):
    """In the words of trtexec's logs, TensorRT 8 and 10."""
    for message in (
        "---------- Layers Running on DLA ----------",
        "[DlaLayer] {ForeignNode[conv1_1...pool5]}",
        "[DlaLayer] {ForeignNode[relu6...fc8]}",
        "---------- Layers Running on GPU ----------",
        "[GpuLayer] CONVOLUTION: conv1",
    ):
        logger.log(3, message)
    assert logger.on_dla == 2
