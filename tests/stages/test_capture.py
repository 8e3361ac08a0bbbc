"""The capture stage before cameras that do everything cameras do, in no time."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from agent.config import Calibration
from agent.core.errors import CalibrationError, CameraError, StoreError
from agent.core.frames.selection import DUPLICATE, distances, frame_features
from agent.core.records import Digest
from agent.stages.capture import capture, least_frames
from tests.fakes.cameras import FakeCamera, FakeClock, FakeFrames
from tests.support import scenes

SETTINGS = Calibration(frames=16, holdout=4, window_s=30)


class Run:
    """One capture with everything that was reported and stored."""

    def __init__(self, picture, settings=SETTINGS, seed=3, store=None, live=True, **camera):
        self.clock = FakeClock()
        self.begin_ns = self.clock.now_ns
        self.camera = FakeCamera(self.clock, picture, **camera)
        self.frames = store or FakeFrames()
        self.reported = []
        self.settings = settings
        self.seed = seed
        self.live = live

    def go(self):
        return capture(
            self.settings,
            digest=Digest("d" * 64),
            work="/work",
            camera=self.camera,
            live=self.live,
            frames=self.frames,
            clock=self.clock,
            seed=self.seed,
            progress=lambda *step: self.reported.append(step),
        )

    @property
    def spent_s(self):
        return (self.clock.now_ns - self.begin_ns) / 1e9


def numbers(names):
    return [int(name.removesuffix(".png")) for name in names]


def test_a_lively_scene_gives_what_was_asked_for_within_the_window():
    run = Run(scenes.street)
    found = run.go()
    assert (len(found.frames), len(found.holdout)) == (16, 4)
    assert run.frames.names == set(found.frames) | set(found.holdout)
    assert not set(found.frames) & set(found.holdout)
    assert 30 <= run.spent_s < 31
    assert (found.width, found.height) == (scenes.WIDTH, scenes.HEIGHT)
    assert (found.source, found.synthetic, found.digest) == ("fake://camera", True, "d" * 64)
    assert all(len(name) == len("00000000.png") for name in found.frames)


def test_the_same_window_and_seed_give_the_same_frames():
    assert Run(scenes.street).go() == Run(scenes.street).go()
    assert Run(scenes.street, seed=4).go().frames != Run(scenes.street).go().frames


def test_frames_are_spread_over_the_window_not_the_first_that_came():
    seen = sorted(numbers(Run(scenes.street, fps=30.0).go().frames))
    assert seen[0] < 225, "first quarter of 900 frames"
    assert seen[-1] > 675, "last quarter"


@pytest.mark.parametrize("window_s", [30, 300])
def test_neither_disk_nor_work_grow_with_the_window(window_s):
    run = Run(
        scenes.street, Calibration(frames=16, holdout=4, window_s=window_s), fps=600 / window_s
    )
    found = run.go()
    assert run.frames.most <= 2 * 20 + 1
    assert found.seen <= 4 * 4 * 20 + 2


def test_held_out_frames_are_no_near_duplicates_of_calibration_frames():
    run = Run(lambda n: scenes.street(n // 7))  # every view is seen seven times, with one noise
    found = run.go()
    signatures = {name: frame_features(run.frames.stored["/work/frames", name]).signature
                  for name in run.frames.names}  # fmt: skip
    chosen = np.stack([signatures[name] for name in found.frames])
    for name in found.holdout:
        assert distances(signatures[name], chosen).min() >= DUPLICATE
    assert found.rejected.duplicate > 0


def test_black_and_blown_out_frames_are_counted_and_left_out():
    def picture(number):
        if number % 3 == 1:
            return np.full((scenes.HEIGHT, scenes.WIDTH, 3), 3, np.uint8)
        if number % 3 == 2:
            return np.full((scenes.HEIGHT, scenes.WIDTH, 3), 254, np.uint8)
        return scenes.street(number)

    found = Run(picture).go()
    assert found.rejected.exposure > 50
    assert all(number % 3 == 0 for number in numbers(found.frames + found.holdout))


def test_blurred_frames_are_left_out_even_those_that_came_first():
    """Before the first sharp frame the usual detail of the scene is unknown."""

    def picture(number):
        sharp = scenes.street(number, noise=0)
        return scenes.blurred(sharp, 4) if number < 40 or number % 3 else sharp

    found = Run(picture).go()
    assert found.rejected.blur > 20
    assert all(number >= 40 and number % 3 == 0 for number in numbers(found.frames))


def test_a_scene_that_is_smooth_is_not_blurred():
    def picture(number):
        scene = scenes.gradient()
        scene[20:60, number % 100 : number % 100 + 20] += 25
        return scene

    assert Run(picture).go().rejected.blur == 0


def test_a_smooth_part_of_a_rich_scene_stays():
    def picture(number):
        if number % 4:
            return scenes.street(number, noise=0)
        scene = scenes.gradient()
        scene[20:60, number % 100 : number % 100 + 20] += 25
        return scene

    found = Run(picture).go()
    assert found.rejected.blur == 0
    assert any(number % 4 == 0 for number in numbers(found.frames))


def test_a_fixed_camera_before_a_still_scene_is_used_with_a_warning(caplog):
    run = Run(lambda n: scenes.street(n % 31, still=True), fps=60.0)
    with caplog.at_level(logging.WARNING):
        found = run.go()
    assert len(found.frames) + len(found.holdout) >= least_frames(20)
    assert found.holdout
    assert not set(found.frames) & set(found.holdout)
    assert "static_scene" in caplog.text
    assert run.frames.names == set(found.frames) | set(found.holdout)
    taken = sorted(numbers(found.frames + found.holdout))
    assert found.seen == len(taken) + found.rejected.duplicate, "what is used is not rejected"
    assert found.seen <= 2 * 16 * 20 + 2, "looking more often finds nothing else"
    assert taken[-1] - taken[0] > 600, "spread over the window"


@pytest.mark.parametrize("pictures", [1, 2, 7])
def test_a_frozen_camera_is_an_error(pictures):
    """The noise of a real sensor makes every frame different, however still the scene is."""
    run = Run(lambda n: scenes.street(n % pictures, still=True))
    with pytest.raises(CameraError) as caught:
        run.go()
    assert caught.value.code == "frozen"
    assert f"{pictures} different picture" in caught.value.message
    assert "frozen" in caught.value.message
    assert "restart the camera" in caught.value.hint


def test_few_good_frames_among_black_ones_are_not_frozen():
    def picture(number):
        black = np.zeros((scenes.HEIGHT, scenes.WIDTH, 3), np.uint8)
        return scenes.street(number, still=True) if number % 100 == 0 else black

    with pytest.raises(CalibrationError) as caught:
        Run(picture, fps=5.0).go()
    assert caught.value.code == "too_few_frames"
    assert "lens cap" in caught.value.hint


def test_a_camera_that_freezes_in_the_end_is_used_up_to_then():
    run = Run(lambda n: scenes.street(min(n, 200)))
    found = run.go()
    assert (len(found.frames), len(found.holdout)) == (16, 4)
    assert max(numbers(found.frames + found.holdout)) <= 200


def test_pictures_of_a_recording_may_repeat_and_are_counted_once():
    found = Run(lambda _: scenes.street(0, still=True), live=False).go()
    assert len(found.frames) + len(found.holdout) >= least_frames(20)
    assert found.distinct == 1
    assert Run(scenes.street, live=False).go().distinct == 20


def test_frames_that_differ_by_noise_only_are_counted_once():
    found = Run(lambda n: scenes.street(n % 31, still=True), fps=60.0).go()
    assert found.distinct < len(found.frames) + len(found.holdout)


def test_few_good_frames_extend_the_window_to_twice_its_length():
    def picture(number):
        return scenes.street(number) if number >= 310 else np.zeros((90, 120, 3), np.uint8)

    run = Run(picture)
    found = run.go()
    assert len(found.frames) + len(found.holdout) == 20
    assert 30 < run.spent_s <= 60.2
    totals = [total for _, total, _ in run.reported]
    assert (totals[0], totals[-1]) == (300, 600)


def test_fewer_frames_than_wanted_keep_the_ratio(caplog):
    """Ten different views only: half of what was asked for, 8 + 2."""
    run = Run(lambda n: scenes.street(n // 60, noise=0))
    with caplog.at_level(logging.WARNING):
        found = run.go()
    assert (len(found.frames), len(found.holdout)) == (8, 2)
    assert "fewer_frames_than_wanted" in caplog.text


@pytest.mark.parametrize(
    ("picture", "reason", "cure"),
    [
        (lambda n: np.zeros((90, 120, 3), np.uint8), "exposure", "lens cap"),
        (lambda n: np.full((90, 120, 3), 120, np.uint8), "exposure", "lens cap"),
        (lambda n: np.full((90, 120, 3), 255, np.uint8), "exposure", "blown out"),
    ],
)
def test_too_few_frames_are_an_error_with_what_was_seen_and_what_to_do(picture, reason, cure):
    run = Run(picture)
    with pytest.raises(CalibrationError) as caught:
        run.go()
    assert caught.value.code == "too_few_frames"
    assert f"{run.reported[-1][2].split()[-1]} {reason}" in caught.value.message
    assert "at least 8 are needed" in caught.value.message
    assert cure in caught.value.hint
    assert 60 <= run.spent_s < 61
    assert not run.frames.names


def test_a_loss_that_the_camera_recovers_from_is_survived_and_counted():
    found = Run(scenes.street, outages={50: 20.0, 80: 1.0}).go()
    assert found.lost == 2
    assert len(found.frames) == 16


def test_a_camera_that_disappears_ends_the_capture():
    run = Run(scenes.street, outages={50: 1e9})
    with pytest.raises(CameraError) as caught:
        run.go()
    assert caught.value.code == "timeout"


def test_a_recording_that_ends_is_used_up_to_its_end():
    found = Run(scenes.street, ends_after=60).go()
    assert least_frames(20) <= len(found.frames) + len(found.holdout) <= 20
    with pytest.raises(CalibrationError, match="5 of 5 frames are usable"):
        Run(scenes.street, ends_after=5, fps=0.5).go()


def test_a_full_disk_ends_the_capture():
    class FullStore(FakeFrames):
        def write(self, directory, name, image):
            if self.writes == 5:
                raise StoreError("no space left", code="disk_full")
            super().write(directory, name, image)

    with pytest.raises(StoreError) as caught:
        Run(scenes.street, store=FullStore()).go()
    assert caught.value.code == "disk_full"


def test_progress_is_in_tenths_of_a_second_and_not_a_flood():
    run = Run(scenes.street, fps=30.0)
    run.go()
    done = [step[0] for step in run.reported]
    assert done == sorted(done)
    assert run.reported[-1][:2] == (300, 300)
    assert 50 <= len(run.reported) <= 62
    assert run.reported[-1][2].startswith("kept ")


@pytest.mark.parametrize(("wanted", "least"), [(2, 2), (8, 8), (20, 8), (32, 8), (160, 40)])
def test_the_least_that_is_sensible(wanted, least):
    assert least_frames(wanted) == least


def test_a_camera_that_changes_its_size_is_taken_as_it_is():
    found = Run(lambda n: scenes.street(n)[: 120 if n < 100 else 90]).go()
    assert (found.width, found.height) == (160, 90)
    assert len(found.frames) == 16


def test_the_smallest_request_gives_one_frame_each():
    found = Run(scenes.street, Calibration(frames=1, holdout=1, window_s=1)).go()
    assert (len(found.frames), len(found.holdout)) == (1, 1)
