"""Pictures at the frame rate of a camera, from sources without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.errors import CameraError
from agent.core.frames.frame import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Pace:
    """Ticks at a frame rate, without a burst after a late call.

    Args:
        fps: Ticks per second, > 0.
        stopped: Ends a wait early.
    """

    def __init__(self, fps: float, stopped: threading.Event) -> None:
        self._period_s = 1.0 / fps
        self._stopped = stopped
        self._due_s = time.monotonic()

    def wait(self, timeout_s: float = threading.TIMEOUT_MAX) -> bool:
        """Wait for the next tick; return False if stopped, or not due within timeout_s."""
        wait_s = self._due_s - time.monotonic()
        if self._stopped.wait(min(max(wait_s, 0.0), max(timeout_s, 0.0))) or wait_s > timeout_s:
            return False
        self._due_s = max(self._due_s + self._period_s, time.monotonic())
        return True


class PacedCamera:
    """The Camera port for pictures that are computed or read on demand.

    Args:
        source: As reports show it.
        fps: Pictures per second.
        picture: Returns the picture of a sequence number, HWC uint8 BGR, or raises CameraError.
        synthetic: True if the pictures are computed.
        name: Returns the source's name of the picture of a sequence number.
    """

    def __init__(
        self,
        source: str,
        fps: float,
        picture: Callable[[int], NDArray[np.uint8]],
        *,
        synthetic: bool = False,
        name: Callable[[int], str] | None = None,
    ) -> None:
        self.source = source
        self.synthetic = synthetic
        self.lost = 0
        self._fps = fps
        self._picture = picture
        self._name = name
        self._sequence = 0
        self._stopped = threading.Event()
        self._pace: Pace | None = None

    def __enter__(self) -> PacedCamera:
        self._pace = Pace(self._fps, self._stopped)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def read(self, timeout_s: float) -> Frame:
        """See `ports.Camera`; a picture that fails raises its own error and is skipped next time."""
        if self._pace is None or self._stopped.is_set():
            raise CameraError(f"{self.source}: is not open", code="closed")
        if not self._pace.wait(timeout_s):
            raise CameraError(
                f"{self.source}: no new frame within {timeout_s:g} s at {self._fps:g} fps",
                code="timeout",
                hint="raise camera.fps",
            )
        sequence, self._sequence = self._sequence, self._sequence + 1
        image = self._picture(sequence)
        return Frame(
            image=image,
            captured_ns=time.monotonic_ns(),
            sequence=sequence,
            origin=self._name(sequence) if self._name else "",
        )
