"""int8-mixed on a trial whose noise is known: which layers stay in float, and what is said."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.errors import QuantizeError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.quantization.mixed_search import WEIGHT_STEPS, Placement
from agent.core.quantization.trial_results import TrialResult
from agent.core.records import (
    Digest,
    LayerSpeed,
    LayerSpeeds,
    MixedFront,
    QuantizedModel,
    Recipe,
)
from agent.core.search.target import Target
from agent.stages.mixed import find_front, write_member
from tests.support.candidates import fidelity

MACS = 1000


OUTLIERS = {"minmax": 300.0, "entropy": 1.0, "percentile": 10.0, "mse": 2.0}
"""The range of each calibrator, where an outlier is at 300 and all else within 1."""


class KnownNoise:
    """Layers l0, l1, ... with given noise; ranges wider than 1 make their tensor noisier."""

    def __init__(
        self,
        noise: Mapping[str, float],
        gain_db: float = 0.0,
        rounding_db: float = -1.0,
        outliers: Mapping[str, float] | None = None,
    ) -> None:
        self.noise = noise
        self.outliers = outliers or dict.fromkeys(CALIBRATORS, 1.0)
        self.gain_db = gain_db
        self.rounding_db = rounding_db
        self.tried: list[Placement] = []
        self.tensors = {f"t{name}": frozenset({name}) for name in noise}
        self.elements = dict.fromkeys(self.tensors, 1000)

    def layers(self) -> dict[str, tuple[str, int]]:
        return dict.fromkeys(self.noise, ("Conv", MACS))

    def weight_noise(
        self, layers: Collection[str], steps: Collection[str] = ()
    ) -> tuple[float, ...]:
        return (sum(self.noise[name] for name in layers) / 10 ** (self.gained_db(steps) / 10),)

    def gained_db(self, steps: Collection[str]) -> float:
        return ("bias-correction" in steps) * self.gain_db + (
            "weight-rounding" in steps
        ) * self.rounding_db

    def activation_noise(self, tensors: Collection[str], calibrator: str) -> tuple[float, ...]:
        return (1e-4 * len(tensors) * self.outliers[calibrator] ** 2,)

    def evaluate(self, placement: Placement, comparison: Comparison) -> TrialResult:
        self.tried.append(placement)
        left = [name for name in self.noise if name not in placement.kept]
        widest = self.outliers[placement.calibrator]
        noise = sum(self.noise[name] for name in left) + 1e-9 * widest
        sqnr_db = -10 * math.log10(noise) + self.gained_db(placement.steps)
        return TrialResult(fidelity=fidelity(sqnr_db, frames=4))

    def write(self, placement: Placement, target: str) -> tuple[float, tuple[str, ...]]:
        Path(target).write_bytes(b"graph")
        return 1 - len(placement.kept) / len(self.noise), tuple(sorted(placement.kept))


BLANK = QuantizedModel(
    digest=Digest("q"), model=Digest("m"), statistics=Digest("s"), steps=("equalization",),
    recipe=Recipe(precision="int8-mixed", calibrator="best", scheme="S8S8"),
)  # fmt: skip


FRONT = MixedFront(
    digest=Digest("f"), model=Digest("m"), statistics=Digest("s"), members=(), calibrator="",
    steps=(), evaluations=0, layers=(), weighed_by="a test",
)  # fmt: skip


def speeds(layers: Mapping[str, tuple[float, float]], *slower: str) -> LayerSpeeds:
    return LayerSpeeds(
        digest=Digest("l"), source="a profiler", floating="fp32", conversion_ns=1.0, slower=slower,
        layers=tuple(LayerSpeed(layer=n, int8_us=a, float_us=b) for n, (a, b) in layers.items()),
    )  # fmt: skip


def front_of(
    known: KnownNoise,
    target: Target,
    steps: tuple[str, ...] = (),
    timed: LayerSpeeds | None = None,
):
    notes = []
    found = find_front(
        replace(FRONT, steps=steps), target, known, speeds=timed,
        comparison=lambda: Comparison("generic"),
        progress=lambda done, total, note: notes.append((done, total, note)),
    )  # fmt: skip
    return found, notes


def written(known: KnownNoise, front: MixedFront, member: int, work: Path):
    blank = replace(BLANK, recipe=replace(BLANK.recipe, member=member))
    return write_member(blank, front, known, work=str(work))


def search(
    known: KnownNoise,
    target: Target,
    work: Path,
    steps: tuple[str, ...] = (),
    timed: LayerSpeeds | None = None,
):
    """Return the last member, which meets the target, and the notes."""
    front, notes = front_of(known, target, steps, timed)
    return written(known, front, len(front.members), work), notes


def test_a_front_goes_from_all_in_int8_to_the_limit_by_measured_time(tmp_path):
    """The layer that saves most noise for its time is left in float first."""
    known = KnownNoise({"a": 1e-4, "b": 0.03, "c": 1e-4, "d": 0.3, "e": 1e-4})
    times = {"a": (9.0, 90.0), "b": (10.0, 90.0), "c": (9.0, 90.0), "d": (10.0, 20.0)}
    front, _ = front_of(known, Target(sqnr_db=20, agreement=0), timed=speeds(times))
    assert [one.kept_float for one in front.members] == [(), ("d",), ("b", "d")]
    assert [one.meets_limits for one in front.members] == [False, False, True]
    shares = [one.time_share for one in front.members]
    assert shares[0] == 1.0
    assert shares == sorted(shares)
    made = written(known, front, 2, tmp_path)
    assert made.kept_float == ("d",)
    assert made.weighed_by == "a test"
    kept = {one.layer: one.kept_float for one in made.sensitivity}
    assert kept == {"a": False, "b": False, "c": False, "d": True, "e": False}
    (costliest,) = [one for one in made.sensitivity if one.layer == "b"]
    assert (costliest.int8_us, costliest.float_us, costliest.slower) == (10.0, 90.0, False)


def test_layers_that_int8_makes_slower_are_in_float_in_every_member(tmp_path):
    known = KnownNoise({"a": 1e-4, "b": 0.3, "c": 1e-4})
    times = speeds({"a": (5.0, 9.0), "b": (1.0, 2.0), "c": (90.0, 9.0)}, "c")
    front, _ = front_of(known, Target(sqnr_db=20, agreement=0), timed=times)
    assert [one.kept_float for one in front.members] == [("c",), ("b", "c")]
    assert all("c" in placement.kept for placement in known.tried)
    made = written(known, front, 1, tmp_path)
    assert {one.layer for one in made.sensitivity if one.slower} == {"c"}


def test_the_report_has_the_costliest_layers_and_the_slower_ones(tmp_path):
    noise = {f"n{i:02d}": 1e-3 * (30 - i) / 30 for i in range(30)}
    known = KnownNoise(noise)
    times = speeds(dict.fromkeys(noise, (1.0, 2.0)) | {"n29": (9.0, 1.0)}, "n29")
    made, _ = search(known, Target(sqnr_db=19, agreement=0), tmp_path, timed=times)
    shown = [one.layer for one in made.sensitivity]
    assert shown == [*(f"n{i:02d}" for i in range(10)), "n29"]


def test_where_float_is_faster_than_any_mixture_nothing_is_offered():
    known = KnownNoise({"a": 0.2, "b": 0.3})
    times = speeds({"a": (1.0, 1.1), "b": (1.0, 1.1)})
    with pytest.raises(QuantizeError, match="faster than float") as caught:
        front_of(known, Target(sqnr_db=20, agreement=0), timed=times)
    assert caught.value.code == "not_offered"


def test_only_the_noisy_layers_stay_in_float(tmp_path):
    known = KnownNoise({"a": 1e-4, "b": 0.3, "c": 1e-4, "d": 0.1, "e": 1e-4})
    found, notes = search(known, Target(sqnr_db=20, agreement=0), tmp_path)
    assert found.kept_float == ("b", "d")
    assert found.int8_macs_fraction == pytest.approx(0.6)
    assert (found.digest, found.steps) == ("q", ("equalization", "minmax-ranges"))
    assert [c.layer for c in found.sensitivity[:2]] == ["b", "d"]
    assert [c.kept_float for c in found.sensitivity[:3]] == [True, True, False]
    assert found.sensitivity[0].sqnr_db == pytest.approx(-10 * math.log10(0.3), abs=0.1)
    assert found.evaluations == len(known.tried) <= 2 * math.log2(5) + 10
    assert notes[-1][1] == 0
    assert any(total for _, total, _ in notes)


def test_nothing_stays_in_float_where_nothing_must(tmp_path):
    known = KnownNoise(dict.fromkeys("abcdef", 1e-6))
    found, _ = search(known, Target(sqnr_db=20, agreement=0), tmp_path)
    assert found.kept_float == ()
    assert found.evaluations == len(CALIBRATORS)


def test_where_int8_meets_the_limits_no_layer_is_tried_alone(tmp_path):
    """Its trials would take minutes, and change nothing."""
    known = KnownNoise(dict.fromkeys("abc", 1e-6))
    times = speeds({"a": (5.0, 9.0), "b": (1.0, 2.0), "c": (90.0, 9.0)}, "c")
    found, notes = search(known, Target(sqnr_db=20, agreement=0), tmp_path, timed=times)
    assert found.kept_float == ("c",)
    assert len(notes) == len(CALIBRATORS)
    (slower,) = found.sensitivity
    assert (slower.layer, slower.int8_us, slower.float_us, slower.slower) == ("c", 90.0, 9.0, True)
    assert slower.sqnr_db is None
    assert "meets the limits" in slower.sqnr_db_reason


def test_the_steps_for_weights_are_applied(tmp_path):
    known = KnownNoise({"a": 1e-4, "b": 0.05}, gain_db=10)
    target = Target(sqnr_db=20, agreement=0)
    without, _ = search(known, target, tmp_path)
    assert (without.steps[1:-1], without.kept_float) == ((), ("b",))
    gains, _ = search(known, target, tmp_path, WEIGHT_STEPS[1])
    assert (gains.steps[1:-1], gains.kept_float) == (WEIGHT_STEPS[1], ())


def test_a_model_that_is_noisy_everywhere_is_not_offered_and_the_layers_are_named(tmp_path):
    known = KnownNoise({"a": 0.2, "b": 0.3, "c": 0.25})
    with pytest.raises(QuantizeError, match=r"b \(5.2 dB\)") as caught:
        search(known, Target(sqnr_db=20, agreement=0), tmp_path)
    assert caught.value.code == "not_offered"
    assert not (tmp_path / "model.onnx").exists()


def test_the_calibrator_that_serves_the_whole_graph_is_taken(tmp_path):
    """What serves each tensor alone clips them all to one side, and those errors add up."""
    known = KnownNoise({"a": 1e-12, "b": 1e-12}, outliers=OUTLIERS)
    found, _ = search(known, Target(sqnr_db=45, agreement=0), tmp_path)
    assert found.steps[-1] == "entropy-ranges"
    assert {placement.calibrator for placement in known.tried} == set(CALIBRATORS)
