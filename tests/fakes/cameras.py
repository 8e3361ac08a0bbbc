"""Cameras and clocks that take no time: each read advances the clock by one frame period."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import CameraError
from agent.core.frames.frame import Frame
from agent.core.frames.input_spec import InputSpec


@dataclass
class FakeClock:
    """A clock that only moves when reported to."""

    now_ns: int = 5_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@dataclass
class FakeCamera:
    """Shows picture(sequence) at `fps`.

    Attributes:
        outages: Seconds without a frame before the frame of that sequence number.
        ends_after: Frames until a finite source has ended.
    """

    clock: FakeClock
    picture: Callable[[int], NDArray[np.uint8]]
    fps: float = 10.0
    outages: Mapping[int, float] = field(default_factory=dict)
    ends_after: int | None = None
    source: str = "fake://camera"
    synthetic: bool = True
    lost: int = 0
    sequence: int = 0

    def __enter__(self) -> FakeCamera:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, timeout_s: float) -> Frame:
        if self.ends_after is not None and self.sequence >= self.ends_after:
            raise CameraError("the recording is over", code="ended")
        outage_s = self.outages.get(self.sequence, 0.0)
        if outage_s > timeout_s:
            self.clock.sleep(timeout_s)
            raise CameraError(f"no new frame within {timeout_s:g} s", code="timeout")
        self.lost += outage_s > 0
        self.clock.sleep(1 / self.fps + outage_s)
        image = self.picture(self.sequence)
        self.sequence += 1
        return Frame(image=image, captured_ns=self.clock.now_ns, sequence=self.sequence - 1)


@dataclass
class FakeFrames:
    """Pictures in memory by (directory, name)."""

    stored: dict[tuple[str, str], NDArray[np.uint8]] = field(default_factory=dict)
    most: int = 0
    writes: int = 0

    def write(self, directory: str, name: str, image: NDArray[np.uint8]) -> None:
        self.stored[directory, name] = image.copy()
        self.writes += 1
        self.most = max(self.most, len(self.stored))

    def remove(self, directory: str, name: str) -> None:
        self.stored.pop((directory, name), None)

    def read(self, path: str, spec: InputSpec) -> NDArray[np.uint8]:
        folder, name = path.rsplit("/", 1)
        return self.stored[folder, name]

    def size(self, path: str) -> tuple[int, int]:
        folder, name = path.rsplit("/", 1)
        height, width = self.stored[folder, name].shape[:2]
        return width, height

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.stored}
