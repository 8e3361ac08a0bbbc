"""A live camera that returns only new frames and reconnects after a loss.

One thread opens the stream, reads it as fast as frames arrive and keeps only the newest one; when
the stream ends or hangs, the thread closes and reopens it. Readers wait on a condition, so their
timeout is met even while the capture library blocks.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.core.errors import CameraError
from agent.core.frames.frame import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STALE_NS = 500_000_000  # an unread frame older than this is dropped
_BACKOFF_FIRST_S = 0.2
_BACKOFF_CAP_S = 5.0
_CLOSE_S = 5.0


class Stream(Protocol):
    """One connection to a source; used and closed by one thread."""

    def read(self) -> NDArray[np.uint8]:
        """Return the next image, HWC uint8 BGR, within a bounded time.

        Raises:
            CameraError: with the reason, if the stream ended, hung or broke.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


OpenStream = Callable[[threading.Event], Stream]
"""Opens a connection within a bounded time, or raises CameraError; the event requests a stop."""


class LiveCamera:
    """The Camera port over anything that opens streams.

    Attributes:
        source: URI without credentials.
        synthetic: True if no real camera or recording is behind it.
        lost: Times the stream was lost and came back.
    """

    def __init__(self, source: str, open_stream: OpenStream, *, synthetic: bool = False) -> None:
        self.source = source
        self.synthetic = synthetic
        self.lost = 0
        self._open_stream = open_stream
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._sequence = 0
        self._last_ns = 0
        self._failure: CameraError | None = None
        self._failures = 0
        self._failures_raised = 0
        self._dead = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> LiveCamera:
        if self._thread is not None:
            raise CameraError(f"{self.source}: is already open or was closed", code="closed")
        self._thread = threading.Thread(target=self._run, name=f"camera {self.source}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread; a blocked read of the capture library ends by its own timeout."""
        self._stopped.set()
        with self._changed:
            self._newest = None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def read(self, timeout_s: float) -> Frame:
        """See `ports.Camera`.

        Before the first frame the stream's own error is raised at once; after it, the stream is
        retried until the timeout.
        """
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        with self._changed:
            while True:
                if self._thread is None or self._stopped.is_set():
                    raise CameraError(f"{self.source}: is not open", code="closed")
                now_ns = time.monotonic_ns()
                frame, self._newest = self._newest, None
                if frame is not None and now_ns - frame.captured_ns <= _STALE_NS:
                    return frame
                is_new = self._failures > self._failures_raised
                if self._sequence == 0 and self._failure and is_new:
                    self._failures_raised = self._failures
                    raise self._failure
                if self._dead:
                    raise CameraError(f"{self.source}: the reading thread has died", code="died")
                if now_ns >= deadline_ns:
                    raise self._timeout(timeout_s, now_ns)
                self._changed.wait((deadline_ns - now_ns) / 1e9)

    def _timeout(self, timeout_s: float, now_ns: int) -> CameraError:
        seen = "no frame since it was opened"
        if self._sequence:
            seen = f"the last of {self._sequence} came {(now_ns - self._last_ns) / 1e9:.1f} s ago"
        message = f"{self.source}: no new frame within {timeout_s:g} s; {seen}"
        if self._failure is not None:
            reason = self._failure.message.removeprefix(f"{self.source}: ")
            message += f"; failed {self._failures} times since, last: {reason}"
        hint = self._failure.hint if self._failure else ""
        return CameraError(message, code="timeout", hint=hint or "is the camera on and connected?")

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._drain()
                except CameraError as e:
                    with self._changed:
                        self._failure = e
                        self._failures += 1
                        self._changed.notify_all()
                self._stopped.wait(backoff_s(self._failures, random.random()))
        finally:
            with self._changed:
                self._dead = True
                self._changed.notify_all()

    def _drain(self) -> None:
        stream = self._open_stream(self._stopped)
        try:
            while not self._stopped.is_set():
                self._publish(stream.read())
        finally:
            stream.close()

    def _publish(self, image: NDArray[np.uint8]) -> None:
        with self._changed:
            self._last_ns = time.monotonic_ns()
            self._newest = Frame(image=image, captured_ns=self._last_ns, sequence=self._sequence)
            if self._failures and self._sequence:
                self.lost += 1
            self._failures = self._failures_raised = 0
            self._failure = None
            self._sequence += 1
            self._changed.notify_all()


def backoff_s(failures: int, chance: float) -> float:
    """Return the delay before the next attempt, s.

    It doubles from 0.2 s to 5 s. Jitter subtracts up to half of it, so that many devices do not
    reconnect to the same server at once.

    Args:
        failures: Consecutive ones so far, >= 0.
        chance: 0..1, uniformly random.
    """
    full_s = min(_BACKOFF_CAP_S, _BACKOFF_FIRST_S * 2.0 ** min(max(failures - 1, 0), 16))
    return full_s * (1.0 - chance / 2)
