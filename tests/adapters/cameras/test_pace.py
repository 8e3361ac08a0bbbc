import threading

import numpy as np
import pytest

from agent.adapters.cameras.pace import Pace, PacedCamera
from agent.core.errors import CameraError


def test_the_first_tick_is_due_at_once_and_the_next_is_not() -> None:
    pace = Pace(0.01, threading.Event())
    assert pace.wait(0.0)
    assert not pace.wait(0.0)


def test_a_stop_ends_a_wait() -> None:
    stopped = threading.Event()
    pace = Pace(0.01, stopped)
    assert pace.wait()
    stopped.set()
    assert not pace.wait()


def test_a_tick_that_is_not_due_in_time_is_a_timeout() -> None:
    with PacedCamera("test", 0.01, lambda n: np.full((1, 1, 3), n, np.uint8)) as camera:
        assert camera.read(0.0).image[0, 0, 0] == 0
        with pytest.raises(CameraError, match=r"within 0 s at 0\.01 fps") as error:
            camera.read(0.0)
    assert error.value.code == "timeout"


def test_a_picture_that_fails_is_passed_over_next_time() -> None:
    def picture(number: int) -> np.ndarray:
        if number == 1:
            raise CameraError("broken")
        return np.zeros((1, 1, 3), np.uint8)

    with PacedCamera("test", 1000.0, picture) as camera:
        assert camera.read(1.0).sequence == 0
        with pytest.raises(CameraError, match="broken"):
            camera.read(1.0)
        assert camera.read(1.0).sequence == 2
