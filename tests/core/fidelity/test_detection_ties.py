"""What FP32 decides by less than float16 rounds is neither agreement nor disagreement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection_agreement import DetectionAgreement

THRESHOLD = 0.25
HEADS = {
    "yolo": Decoding(kind="yolo"),
    "yolo with objectness": Decoding(kind="yolo", objectness=True),
    "yolo, logits": Decoding(kind="yolo", logits=True),
    "segment": Decoding(kind="yolo", masks="m"),
    "pose": Decoding(kind="yolo", keypoints=2),
    "obb": Decoding(kind="yolo", rotated=True),
    "nms": Decoding(kind="nms"),
    "separate": Decoding(kind="nms", boxes="b", scores="s", labels="c"),
    "queries": Decoding(kind="boxes", boxes="b", scores="q", softmax=True, no_object=True),
}


def outputs(scores, seed, edge=640.0):
    """Return outputs that any of the heads reads, with boxes in clusters that NMS thins out."""
    rng = np.random.default_rng(seed)
    count = len(scores)
    boxes = rng.uniform(20, edge, (3, 4))[rng.integers(0, 3, count)]
    boxes = np.abs(boxes * rng.uniform(0.8, 1.2, (count, 4))) + 1
    boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:]
    scores = np.array(scores)
    other = rng.uniform(0, 0.2, count)
    beside = rng.uniform(-1, 1, (count, 4))
    classes = rng.integers(0, 80, count)
    found = {
        "yolo": np.c_[boxes, scores, other],
        "yolo with objectness": np.c_[boxes, np.sqrt(scores), np.sqrt(scores), other],
        "yolo, logits": np.c_[boxes, np.log(scores / (1 - scores)), 0 * scores - 9],
        "segment": np.c_[boxes, scores, other, beside],
        "pose": np.c_[boxes, scores, boxes * rng.uniform(0.9, 1.1, (count, 4))],
        "obb": np.c_[boxes, scores, other, beside[:, 0]],
        "nms": np.c_[boxes, scores, classes],
    }
    beside = {
        "b": boxes, "s": scores, "c": classes.astype(np.float64),
        "q": np.log(np.c_[scores, other + 1e-3, np.full(count, 0.3)]),
        "m": rng.uniform(-1, 1, (4, 16, 16)),
    }  # fmt: skip
    wide = 40 - count if count < 40 else 0
    padded = {name: np.pad(values, ((0, wide), (0, 0))) for name, values in found.items()}
    padded["yolo, logits"][count:, 4:] = -9
    everything = padded | beside
    return lambda head: (
        {"y": everything[head].astype(np.float32)[None] if head in everything else beside["s"]}
        | {name: values[None].astype(np.float32) for name, values in beside.items()}
    )


def rounded(found):
    return {name: values.astype(np.float16).astype(np.float32) for name, values in found.items()}


def near_the_threshold():
    step = st.floats(-4, 4).map(lambda steps: THRESHOLD * (1 + steps * 2.0**-11))
    return st.one_of(step, st.floats(0.01, 0.99))


@pytest.mark.parametrize("head", HEADS)
@given(scores=st.lists(near_the_threshold(), min_size=1, max_size=12), seed=st.integers(0, 99))
@example(scores=[0.25, 0.2498779296875], seed=94)
def test_an_engine_that_rounds_to_float16_agrees(head, scores, seed):
    agreement = DetectionAgreement(HEADS[head])
    found = outputs(scores, seed)(head)
    agreement.add(found, rounded(found))
    assert agreement.metrics().get("ap50", 1.0) == pytest.approx(1)


@pytest.mark.parametrize("head", HEADS)
@given(scores=st.lists(st.floats(0.26, 0.99), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_an_engine_without_scores_does_not_agree(head, scores, seed):
    agreement = DetectionAgreement(HEADS[head])
    found = outputs(scores, seed)(head)
    empty = {name: values * 0 - 9 * ("logits" in head) for name, values in found.items()}
    if head == "queries":
        empty["q"] = found["q"] + [[0, 0, 9]]  # no object
    agreement.add(found, empty)
    assert agreement.judged == 1
    assert agreement.metrics()["ap50"] == 0
    assert agreement.summary().startswith("finds 0 % of FP32's ")


def head_of(*scores):
    """Return a YOLO head with boxes far apart."""
    found = np.zeros((1, 5, 40), np.float32)
    for cell, score in enumerate(scores):
        found[0, :, cell] = [30 + 60 * cell, 100, 40, 40, score]
    return {"y": found}


def judged(*frames):
    comparison = Comparison("detection", None, Decoding(kind="yolo"))
    for expected, seen in frames:
        comparison.add(head_of(*expected), head_of(*seen))
    return comparison.result()


def test_a_box_at_the_threshold_may_be_found_or_not():
    for hair in (0.2501, 0.2499):
        for seen in (0.15, 0.2499, 0.2501, 0.6):
            found = judged(*[((0.9, hair), (0.9, seen))] * 8)
            assert (found.agreement, found.judged_frames) == (1.0, 8)
    lost = judged(*[((0.9, 0.26), (0.9, 0.24))] * 8)
    assert (lost.agreement, lost.summary) == (
        pytest.approx(0.5, abs=0.01),
        "finds 50 % of FP32's boxes",
    )
    invented = judged(*[((0.9, 0.24), (0.9, 0.95))] * 8)
    assert invented.agreement == pytest.approx(0.5, abs=0.01)


def test_a_frame_with_nothing_but_a_box_at_the_threshold_is_not_judged():
    ties = [((0.2501,), (0.2499,)), ((0.2501,), (0.3,)), ((0.2499,), (0.3,)), ((), ())] * 4
    found = judged(*ties)
    assert (found.agreement, found.judged_frames) == (None, 0)
    assert found.agreement_reason.startswith("not enough seen to judge")
    found = judged(*ties, *[((0.9,), (0.8,))] * 4)
    assert (found.agreement, found.judged_frames) == (1.0, 4)


def test_an_overlap_at_the_limit_may_be_suppressed_or_not():
    """Of two boxes 40 wide, 40 - x in common: IoU 0.45 at x = 15.17."""

    def pair(apart):
        found = head_of(0.9, 0.8)
        found["y"][0, 0, 1] = 30 + apart
        return found

    def summary(expected, seen):
        one = DetectionAgreement(Decoding(kind="yolo"))
        one.add(pair(expected), pair(seen))
        return one.summary()

    limit = 40 * (1 - 0.45) / (1 + 0.45)
    assert summary(limit - 0.01, limit + 0.01) == "finds 100 % of FP32's boxes"
    assert summary(limit + 0.01, limit - 0.01) == "finds 100 % of FP32's boxes"
    assert summary(limit - 2, limit + 2).endswith("and 50 % of its own are none of FP32's")
    assert summary(limit + 2, limit - 2) == "finds 50 % of FP32's boxes"


@pytest.mark.parametrize(("hair", "words"), [(0.2501, "100 %"), (0.26, "50 %")])
def test_a_box_at_the_threshold_is_a_tie_where_the_number_of_rows_varies(hair, words):
    """A graph that leaves out low scores itself gives a row less."""
    expected = {
        "b": np.float32([[10, 10, 50, 50], [100, 10, 150, 50]]),
        "s": np.float32([0.9, hair]),
        "c": np.float32([1, 2]),
    }
    agreement = DetectionAgreement(HEADS["separate"])
    agreement.add(expected, {name: values[:1] for name, values in expected.items()})
    assert agreement.summary() == f"finds {words} of FP32's boxes"
    assert agreement.judged == 1


def test_class_ids_are_no_tie():
    rows = np.zeros((1, 9, 6), np.float32)
    rows[0, 0] = [10, 10, 50, 50, 0.9, 1202]
    other = rows.copy()
    other[0, 0, 5] = 1203
    agreement = DetectionAgreement(Decoding(kind="nms"))
    agreement.add({"y": rows}, {"y": other})
    assert agreement.metrics()["ap50"] == 0


@pytest.mark.parametrize(
    ("head", "words", "seen"),
    [
        ("yolo", "finds 50 % of FP32's boxes", "a box with a score of 0.25"),
        ("segment", "finds 50 % of FP32's masks", "a mask with a score of 0.25"),
        ("pose", "finds 50 % of FP32's poses", "a pose with a score of 0.25"),
        ("obb", "finds 50 % of FP32's rotated boxes", "a rotated box with a score of 0.25"),
        ("nms", "finds 50 % of FP32's boxes", "a box with a score of 0.25"),
    ],
)
def test_the_summary_is_in_the_words_of_the_head(head, words, seen):
    found = outputs([0.9, 0.9], 5)(head)
    wide = found["y"]
    wide[0, :2, :4] = [[100, 100, 50, 50], [300, 300, 350, 350]]
    found["m"][:] = 1
    wide[0, :2, 6:] = 1 if head == "segment" else wide[0, :2, 6:]
    lost = {name: values.copy() for name, values in found.items()}
    lost["y"][0, 1, 4] = 0
    if head == "nms":
        wide[0, :2, 2:4] = wide[0, :2, :2] + 50
        lost["y"][0, :2, 2:4] = wide[0, :2, 2:4]
    agreement = DetectionAgreement(HEADS[head])
    agreement.add(found, lost)
    assert (agreement.summary(), agreement.seen) == (words, seen)


def test_ranks_that_rounding_swaps_cost_nothing_where_there_are_hundreds_of_boxes():
    """A cut at the 100 best would make misses of those on either side of it."""
    rng = np.random.default_rng(0)
    place = np.stack(np.divmod(np.arange(400), 20), axis=1) * 30.0 + 15
    boxes = np.c_[place, np.full((400, 2), 20.0)]
    scores = rng.uniform(0.4, 0.6, 400)

    def head(scores: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": np.c_[boxes, scores].astype(np.float32)[None]}

    agreement = DetectionAgreement(Decoding(kind="yolo"))
    agreement.add(head(scores), head(scores + rng.normal(0, 0.02, 400)))
    assert agreement.metrics()["ap50"] == pytest.approx(1.0)
    assert agreement.summary() == "finds 100 % of FP32's boxes"
