"""The check of the intake: what it compares, and when it can't."""

from __future__ import annotations

import numpy as np
import pytest

from agent.core.errors import ConfigError, ModelError
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.plausibility import Plausibility
from agent.core.fidelity.sameness import COARSE_TOLERANCE, TOLERANCE
from agent.core.records import CheckedIntake, Digest
from agent.stages.check_intake import check_intake

NAMES = ("0.png", "1.png", "2.png", "3.png")
BLANK = CheckedIntake(
    digest=Digest("d"), model=Digest("m"), calibration=Digest("c"), tolerance=TOLERANCE
)


def outputs(name):
    return {"y": np.random.default_rng(int(name[0])).standard_normal((1, 8)).astype(np.float32)}


def wrong_on(*frames):
    """Return a runner of a graph with other outputs on some frames."""
    return lambda names: ({"y": outputs(n)["y"] + (1 if n in frames else 1e-7)} for n in names)


def checked(graph, file=None, *, coarse=False, names=NAMES, decoding=None, **changes):
    blank = BLANK if not coarse else CheckedIntake(
        digest=Digest("d"), model=Digest("m"), calibration=Digest("c"), tolerance=COARSE_TOLERANCE
    )  # fmt: skip
    return check_intake(
        blank, names, file=file or (lambda some: map(outputs, some)), graph=graph, ranked=(),
        coarse=coarse, progress=lambda *_: None,
        plausibility=Plausibility("detection" if decoding else "generic", decoding), **changes,
    )  # fmt: skip


def test_the_same_outputs_are_reported_with_their_largest_difference():
    found = checked(wrong_on())
    assert (found.frames, found.output, found.reason) == (4, "y", "")
    assert 0 < found.relative < 1e-6
    assert found.max_difference == pytest.approx(1e-7, rel=0.5)


def test_one_frame_that_differs_ends_the_run_with_its_name():
    with pytest.raises(ModelError, match="output y differs by up to 1") as caught:
        checked(wrong_on("2.png"))
    assert caught.value.code == "intake_differs"
    assert "(frame 2.png)" in caught.value.message
    assert "report this" in (caught.value.hint or "")


def test_a_decoding_that_can_not_be_right_ends_the_run_before_anything_is_built():
    """A pose head has pixels behind its scores, which no shape shows."""
    pose = np.random.default_rng(0).uniform(1, 600, (1, 11, 40)).astype(np.float32)
    pose[:, 4] = 0.9

    def run(names):
        return ({"y": pose} for _ in names)

    assert checked(run, run, decoding=Decoding(kind="yolo", keypoints=3)).reason == ""
    assert checked(run, run).reason == ""
    with pytest.raises(ConfigError, match=r"not inside 0\.\.1") as caught:
        checked(run, run, decoding=Decoding(kind="yolo"))
    assert "keypoints" in (caught.value.hint or "")


def test_a_missing_output_is_named():
    with pytest.raises(ModelError, match="output y is missing"):
        checked(lambda names: ({"z": outputs(n)["y"]} for n in names))


def test_a_file_that_rounds_by_itself_may_differ_on_half_of_the_frames():
    """Rounding decides single rows on single frames; a wrong step is wrong on most."""
    assert checked(wrong_on("1.png", "3.png"), coarse=True).relative < 1e-6
    with pytest.raises(ModelError, match="does not compute"):
        checked(wrong_on("1.png", "2.png", "3.png"), coarse=True)


def test_a_file_that_does_not_run_is_not_compared_and_the_reason_is_kept():
    def refuses(names):
        raise ModelError("no kernel for FancyOp", code="not_run")
        yield

    found = checked(wrong_on(), refuses)
    assert found.reason == "the file does not run as it is written: no kernel for FancyOp"
    assert (found.frames, found.max_difference, found.relative) == (0, None, None)


def test_a_file_with_other_outputs_at_each_run_is_not_compared():
    drawn = np.random.default_rng(0)

    def random(names):
        return ({"y": drawn.standard_normal((1, 8))} for _ in names)

    found = checked(random, random)
    assert found.reason == "the file gives other outputs at each run (output y)"


def test_no_frame_is_no_proof():
    assert checked(wrong_on(), names=()).reason == "there is no frame to compare on"


POSE = np.random.default_rng(0).uniform(1, 600, (1, 11, 40)).astype(np.float32)


def refuses(names):
    raise ModelError("no kernel for FancyOp", code="not_run")
    yield


def test_a_file_that_does_not_run_does_not_spare_its_decoding_the_check():
    with pytest.raises(ConfigError, match=r"not inside 0\.\.1"):
        checked(lambda names: ({"y": POSE} for _ in names), refuses, decoding=Decoding(kind="yolo"))


def empty_but_on(*frames):
    """Return a runner of a YOLO head that finds a box on some frames only, and what it ran on."""
    asked = []

    def run(names):
        for name in names:
            asked.append(name)
            head = np.tile(np.array([50.0, 50.0, 9.0, 9.0, 0.1 + len(asked) / 1000])[:, None], 20)
            head[4, 0] = 0.9 if name in frames else 0.1
            yield {"y": head[None]}

    return run, asked


def test_frames_are_added_while_nothing_is_found_and_no_longer():
    head, asked = empty_but_on("h2")
    found = checked(
        head, refuses, decoding=Decoding(kind="yolo"), others=("h0", "h1", "h2", "h3", "h4")
    )
    assert asked == [*NAMES, "h0", "h1", "h2"]
    assert found.doubts == ()
    head, asked = empty_but_on("1.png")
    assert checked(head, refuses, decoding=Decoding(kind="yolo"), others=("h0",)).doubts == ()
    assert asked == [*NAMES]


def test_what_is_never_found_is_a_doubt_and_no_error():
    head, asked = empty_but_on()
    found = checked(head, refuses, decoding=Decoding(kind="yolo"), others=("h0", "h1"))
    assert len(asked) == 6
    assert found.doubts == ("FP32 finds nothing in 6 frames (a box with a score of 0.25)",)


def test_where_nothing_can_be_judged_the_run_ends_and_the_input_is_named():
    def broken(names):
        return ({"y": np.full((1, 3), np.nan, np.float32)} for _ in names)

    with pytest.raises(ModelError, match="on 5 of 5 frames: nothing can be judged") as caught:
        checked(broken, broken, others=("h0",), fed="8x6 RGB, pixels 0..255")
    assert caught.value.code == "not_finite"
    assert caught.value.hint == "is the input right? The model is fed 8x6 RGB, pixels 0..255"
