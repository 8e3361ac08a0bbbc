"""Which way of launching is kept, and whether cuda-bindings is what the code takes it for."""

from __future__ import annotations

import ast
import ctypes.util
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import count, cycle, repeat
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import RunnerError
from agent.engines import cuda_graph
from agent.engines.cuda_graph import capture, choose_launches, faster_launches
from tests.support.parts import missing_part

SOURCE = list(ast.walk(ast.parse(Path(cuda_graph.__file__).read_text("utf-8"))))
TIMES = st.lists(st.floats(1e3, 1e9), min_size=5, max_size=5)


class Machine:
    """A clock, and ways to run that let it go on."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.runs: list[str] = []

    def way(self, name: str, times_ms: Iterator[float]) -> Callable[[], None]:
        def run() -> None:
            self.runs.append(name)
            self.now_ns += int(next(times_ms) * 1e6)

        return run


@pytest.mark.parametrize(("once_ms", "runs"), [(0.1, 20), (5.0, 10), (200.0, 1)])
def test_both_ways_take_turns_and_a_slow_engine_is_not_run_for_long(once_ms, runs):
    machine = Machine()
    plain, graph = (machine.way(name, repeat(once_ms)) for name in "pg")
    faster_launches(plain, graph, lambda: machine.now_ns)
    order = "".join(machine.runs)
    assert len(order) == 2 + 2 * 5 * runs
    assert "ppp" not in order
    assert "ggg" not in order
    assert order.count("p") == order.count("g")


@pytest.mark.parametrize("step", [-0.002, 0.002])
def test_clocks_that_rise_or_fall_meanwhile_favour_neither(step):
    machine = Machine()
    times_ms = count(2.0, step)
    plain, graph = (machine.way(name, times_ms) for name in "pg")
    assert faster_launches(plain, graph, lambda: machine.now_ns).by == "plain launches"


def test_a_spike_in_some_runs_decides_nothing():
    machine = Machine()
    plain = machine.way("p", cycle([1.0] * 6 + [30.0]))
    graph = machine.way("g", cycle([0.9] * 8 + [40.0]))
    assert faster_launches(plain, graph, lambda: machine.now_ns).by == "CUDA graph"


@given(TIMES)
def test_what_is_as_fast_is_not_kept(plain_ns):
    assert choose_launches(plain_ns, plain_ns).by == "plain launches"


@given(TIMES, st.floats(0.1, 0.999))
def test_what_is_faster_by_the_same_share_each_time_is_kept_whatever_the_drift(plain_ns, share):
    assert choose_launches(plain_ns, [share * one for one in plain_ns]).by == "CUDA graph"
    assert choose_launches([share * one for one in plain_ns], plain_ns).by == "plain launches"


def test_both_times_are_reported():
    found = choose_launches([1.01e6] * 5, [1.02e6] * 5)
    assert found.reason == "a CUDA graph is not faster: 1.020 ms against 1.010 ms"


def driver() -> ModuleType:
    try:
        from cuda.bindings import driver
    except ImportError as e:
        missing_part("cuda-bindings", str(e))
    return driver


def names() -> set[str]:
    """Return every name that is read from the library's module, with those within it."""
    found = {ast.unparse(node) for node in SOURCE if isinstance(node, ast.Attribute)}
    return {name.partition("driver.")[2] for name in found if re.match(r"(self\._)?driver\.", name)}


def calls() -> list[tuple[str, int]]:
    """Return every function of the library that is called, and with how many arguments."""
    return [
        (node.args[0].attr, len(node.args) - 1)
        for node in SOURCE
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"_call", "_try_call"}
        and isinstance(node.args[0], ast.Attribute)
    ]


def test_every_name_that_is_used_is_in_the_library():
    library = driver()
    assert "CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL" in names()
    for name in names():
        attrgetter(name)(library)


def test_every_function_takes_the_arguments_that_it_is_given():
    library = driver()
    assert {name for name, _ in calls()} == {name for name in names() if name.startswith("cu")}
    for name, given_to_it in calls():
        assert len(inspect.signature(getattr(library, name)).parameters) == given_to_it, name


def test_a_status_has_the_number_and_the_name_that_are_read_of_it():
    status = driver().CUresult
    assert int(status.CUDA_SUCCESS) == 0
    name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
    assert getattr(status, name).name == name


def test_a_machine_without_a_driver_is_reported_in_one_line():
    """By the library itself: an address of a stream is the kind of argument that it takes."""
    driver()
    if ctypes.util.find_library("cuda"):
        pytest.skip("there is a driver here, and no stream at that address")
    with pytest.raises(RunnerError, match="driver") as raised:
        capture(lambda: None, 4096)
    assert "\n" not in raised.value.message
