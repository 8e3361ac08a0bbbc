"""CUDA graphs by the real driver: cuda-bindings on PyCUDA's context and stream."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from agent.core.errors import RunnerError
from agent.engines.cuda import find_cuda
from agent.engines.cuda_graph import capture, faster_launches
from tests.support.parts import missing_part

pytestmark = pytest.mark.gpu
_SIZE = 4096
_KERNELS = 200
_PTX = """
.version 7.0
.target sm_50
.address_size 64
.visible .entry add_one(.param .u64 values)
{
    .reg .b32 %r<4>;
    .reg .b64 %a<3>;
    .reg .f32 %f<2>;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r1, %r1, %r2, %r3;
    ld.param.u64 %a1, [values];
    cvta.to.global.u64 %a1, %a1;
    mul.wide.u32 %a2, %r1, 4;
    add.s64 %a1, %a1, %a2;
    ld.global.f32 %f1, [%a1];
    add.f32 %f1, %f1, 0f3F800000;
    st.global.f32 [%a1], %f1;
    ret;
}
"""


class Work:
    """Many small kernels on one stream, as an engine of many small layers enqueues them."""

    def __init__(self, cuda: Any) -> None:
        self.stream = cuda.Stream()
        self.values = cuda.mem_alloc(4 * _SIZE)
        self._cuda = cuda
        self._add_one = cuda.module_from_buffer(_PTX.encode()).get_function("add_one")

    def enqueue(self) -> None:
        for _ in range(_KERNELS):
            self._add_one(
                self.values, block=(256, 1, 1), grid=(_SIZE // 256, 1), stream=self.stream
            )

    def result(self, launch: Callable[[], None]) -> np.ndarray:
        self._cuda.memcpy_htod(self.values, np.zeros(_SIZE, np.float32))
        launch()
        self.stream.synchronize()
        found = np.empty(_SIZE, np.float32)
        self._cuda.memcpy_dtoh(found, self.values)
        return found


@pytest.fixture
def work() -> Iterator[Work]:
    try:
        cuda = find_cuda()
    except RunnerError as e:
        missing_part("an NVIDIA GPU with PyCUDA", e.message)
    context = cuda.Device(0).make_context()
    try:
        yield Work(cuda)
    finally:
        context.pop()
        context.detach()


def test_a_graph_computes_what_was_captured_and_plain_launches_still_work(work, capsys):
    plain = work.result(work.enqueue)
    graph = capture(work.enqueue, work.stream.handle)
    assert (plain == _KERNELS).all()
    assert (work.result(graph.launch) == plain).all()
    assert (work.result(work.enqueue) == plain).all()

    def timed(launch: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            launch()
            work.stream.synchronize()

        return run

    launches = faster_launches(timed(work.enqueue), timed(graph.launch), time.perf_counter_ns)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{_KERNELS} kernels of {_SIZE} floats: {launches.by}, {launches.reason}\n"
        )
    graph.close()
    assert (work.result(work.enqueue) == plain).all()


def test_what_may_not_be_captured_is_an_error_and_the_stream_takes_work_again(work):
    def enqueue() -> None:
        work.enqueue()
        work.stream.synchronize()

    with pytest.raises(Exception, match=r"(?i)captur"):
        capture(enqueue, work.stream.handle)
    assert (work.result(work.enqueue) == _KERNELS).all()


def test_nothing_enqueued_is_an_empty_graph(work):
    graph = capture(lambda: None, work.stream.handle)
    graph.launch()
    work.stream.synchronize()
    graph.close()
