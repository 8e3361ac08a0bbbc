"""A clock that tests turn, and an engine with runs that take the time that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.records import Launches

Outputs = Mapping[str, NDArray[Any]]


@dataclass
class FakeClock:
    """Time that passes only when a test advances it."""

    now_ns: int = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@dataclass
class FakeRunner:
    """An engine that computes `function` and takes the next of `runs_ms`.

    Attributes:
        fails_at: Number of the run that raises, from 1; 0 never does.
        loads: False for an engine that can't be loaded.
        bound: What was bound, in order.
    """

    clock: FakeClock
    runs_ms: Iterable[float] = field(default_factory=lambda: repeat(1.0))
    function: Callable[[Outputs], Outputs] = dict
    fails_at: int = 0
    loads: bool = True
    log: list[str] = field(default_factory=list)
    name: str = ""
    bound: list[Outputs] = field(default_factory=list)
    count: int = 0
    on_device_ms: float | None = None
    entered: bool = False
    on_device_bytes: int | None = 0
    launched: Launches | None = None

    def __enter__(self) -> FakeRunner:
        if not self.loads:
            raise RunnerError(f"{self.name} does not load")
        self.entered = True
        self._times: Iterator[float] = iter(self.runs_ms)
        return self

    def __exit__(self, *_: object) -> None:
        self.entered = False

    def bind(self, inputs: Outputs) -> None:
        self.log.append(self.name)
        self.bound.append({name: value.copy() for name, value in inputs.items()})
        self.clock.now_ns += 50_000_000  # what lies outside run() must not be counted

    def run(self) -> None:
        if not self.entered:
            raise RunnerError("not loaded")
        self.count += 1
        if self.count == self.fails_at:
            raise RunnerError(f"{self.name} failed in run {self.count}")
        self.clock.now_ns += round(next(self._times) * 1e6)

    def device_ms(self) -> float | None:
        return self.on_device_ms

    def launches(self) -> Launches | None:
        return self.launched if self.count else None

    def device_bytes(self) -> int | None:
        return self.on_device_bytes

    def outputs(self) -> dict[str, NDArray[Any]]:
        return {name: np.array(value) for name, value in self.function(self.bound[-1]).items()}
