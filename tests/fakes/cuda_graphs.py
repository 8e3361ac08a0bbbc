"""cuda-bindings for the GPU that is none: streams that record, graphs that replay.

Its functions return tuples that begin with a status, as the real ones do, and insist on what the
driver insists on: a current context, a capture that was begun and is ended, handles that live.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.fakes.gpu import Gpu

NAME = "cuda.bindings.driver"


class Status(IntEnum):
    """Some of CUresult."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class Handle:
    """A CUgraph or a CUgraphExec, and the work in it."""

    def __init__(self, work: list[Callable[[], None]]) -> None:
        self.work = work


@dataclass
class Graphs:
    """What capture does on a GPU.

    Attributes:
        fails: Status, or what is raised, by the function that fails.
        alive: Graphs, plain and executable, that were not destroyed.
        distorts: True if a graph computes something else than what was captured.
    """

    fails: dict[str, Status | Exception] = field(default_factory=dict)
    alive: list[Handle] = field(default_factory=list)
    distorts: bool = False


def install(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> Graphs:
    """Put the library where imports look first."""
    graphs = Graphs()

    def status(function: str, *, holds: bool = True) -> Status:
        gpu.calls.append(function)
        said = graphs.fails.get(function, Status.CUDA_SUCCESS)
        if isinstance(said, Exception):
            raise said
        if not gpu.stack:
            return Status.CUDA_ERROR_INVALID_CONTEXT
        return said if holds else Status.CUDA_ERROR_INVALID_VALUE

    def begin(stream: int, mode: str) -> tuple[Status]:
        assert (stream, mode) == (7, "thread local")
        said = status("cuStreamBeginCapture", holds=gpu.capturing is None)
        if not said:
            gpu.capturing, gpu.spoilt = [], False
        return (said,)

    def end(stream: int) -> tuple[Status, Handle | None]:
        assert stream == 7
        work, gpu.capturing = gpu.capturing, None
        said = status("cuStreamEndCapture", holds=work is not None)
        if not said and gpu.spoilt:
            said = Status.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
        if said or work is None:
            return said, None
        return said, made(work)

    def made(work: list[Callable[[], None]]) -> Handle:
        graphs.alive.append(Handle(work))
        return graphs.alive[-1]

    def instantiate(graph: Handle, flags: int) -> tuple[Status, Handle | None]:
        assert flags == 0
        said = status("cuGraphInstantiate", holds=graph in graphs.alive)
        return said, None if said else made(list(graph.work))

    def launch(executable: Handle, stream: int) -> tuple[Status]:
        assert stream == 7
        said = status("cuGraphLaunch", holds=executable in graphs.alive)
        if not said:
            gpu.passes("graph")
            for one in executable.work:
                one()
            if graphs.distorts:
                gpu.distort()
        return (said,)

    def destroy(function: str) -> Callable[[Handle], tuple[Status]]:
        def act(handle: Handle) -> tuple[Status]:
            said = status(function, holds=handle in graphs.alive)
            if not said:
                graphs.alive.remove(handle)
            return (said,)

        return act

    library = ModuleType(NAME)
    modes = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="thread local")
    vars(library)["CUstreamCaptureMode"] = modes
    functions: dict[str, Callable[..., tuple[Any, ...]]] = {
        "cuStreamBeginCapture": begin,
        "cuStreamEndCapture": end,
        "cuGraphInstantiate": instantiate,
        "cuGraphLaunch": launch,
        "cuGraphDestroy": destroy("cuGraphDestroy"),
        "cuGraphExecDestroy": destroy("cuGraphExecDestroy"),
    }
    for name, function in functions.items():
        function.__name__ = name
        vars(library)[name] = function
    monkeypatch.setitem(sys.modules, NAME, library)
    return graphs


def take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no such library, whatever is installed."""
    monkeypatch.setitem(sys.modules, NAME, None)
