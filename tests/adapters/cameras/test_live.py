import queue
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.cameras.live import LiveCamera, backoff_s
from agent.core.errors import CameraError

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Script:
    """A stream that yields what the test puts into it: images, or errors to raise."""

    def __init__(self) -> None:
        self.items: queue.Queue = queue.Queue()
        self.opened = self.closed = 0
        self.refusals: list[CameraError] = []

    def __call__(self, stopped: threading.Event):
        self.stopped = stopped
        self.opened += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return self

    def read(self):
        while not self.stopped.is_set():
            try:
                item = self.items.get(timeout=0.01)
            except queue.Empty:
                continue
            if isinstance(item, Exception):
                raise item
            self.items.task_done()
            return item
        raise CameraError("closed")

    def close(self) -> None:
        self.closed += 1


def test_only_the_newest_frame_is_given() -> None:
    script = Script()
    with LiveCamera("test", script) as camera:
        for _ in range(3):
            script.items.put(IMAGE)
        frames = [camera.read(5.0)]
        while frames[-1].sequence < 2:
            frames.append(camera.read(5.0))
        with pytest.raises(CameraError, match="the last of 3 came"):
            camera.read(0.0)
    assert script.closed == script.opened == 1


def test_an_unread_frame_grows_stale() -> None:
    script = Script()
    with LiveCamera("test", script) as camera:
        script.items.put(IMAGE)
        script.items.join()
        deadline = time.monotonic() + 5
        while camera._newest is None and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        old = camera._newest
        assert old is not None
        camera._newest = type(old)(
            image=old.image, captured_ns=old.captured_ns - 10**9, sequence=old.sequence
        )
        with pytest.raises(CameraError) as error:
            camera.read(0.0)
    assert error.value.code == "timeout"


def test_what_can_not_be_opened_is_reported_at_once_with_its_own_words() -> None:
    script = Script()
    script.refusals = [CameraError("test: no such file", code="unreachable", hint="look")]
    with LiveCamera("test", script) as camera:
        with pytest.raises(CameraError, match="no such file") as error:
            camera.read(30.0)
        assert (error.value.code, error.value.hint) == ("unreachable", "look")
        script.items.put(IMAGE)
        assert camera.read(30.0).sequence == 0  # tried again meanwhile
        assert camera.lost == 0  # never had it, never lost it


def test_a_loss_counts_once_however_many_attempts_it_takes() -> None:
    script = Script()
    with LiveCamera("test", script) as camera:
        script.items.put(IMAGE)
        camera.read(5.0)
        script.refusals = [CameraError("test: refused", hint="on?")]
        script.items.put(CameraError("test: ended"))
        script.items.put(IMAGE)
        frame = camera.read(30.0)
        assert (frame.sequence, camera.lost) == (1, 1)
        assert script.opened == 3
        script.items.put(CameraError("test: ended"))
        script.items.put(IMAGE)
        camera.read(30.0)
        assert camera.lost == 2


def test_a_timeout_reports_the_last_failure() -> None:
    script = Script()
    with LiveCamera("test", script) as camera:
        script.items.put(IMAGE)
        camera.read(5.0)
        script.refusals = [CameraError("test: refused", hint="on?")] * 100
        script.items.put(CameraError("test: ended"))
        deadline = time.monotonic() + 10
        while camera._failures < 2 and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        with pytest.raises(CameraError, match=r"failed \d times since, last: refused") as error:
            camera.read(0.0)
    assert (error.value.code, error.value.hint) == ("timeout", "on?")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_of_a_defect_is_reported() -> None:
    script = Script()
    script.items.put(ZeroDivisionError("defect"))
    with LiveCamera("test", script) as camera, pytest.raises(CameraError) as error:
        camera.read(30.0)
    assert error.value.code == "died"
    assert script.closed == 1


def test_a_camera_is_entered_once() -> None:
    camera = LiveCamera("test", Script())
    with camera, pytest.raises(CameraError), camera:
        pass
    with pytest.raises(CameraError), camera:
        pass


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_wait_is_bounded_and_never_nothing(failures: int, chance: float) -> None:
    assert 0.1 <= backoff_s(failures, chance) <= 5.0
    assert backoff_s(failures, 0.0) <= backoff_s(failures + 1, 0.0)
