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
from agent.core.records import Digest, QuantizedModel, Recipe
from agent.stages.mixed import Target, mixed
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


def search(known: KnownNoise, target: Target, work: Path, steps: tuple[str, ...] = ()):
    notes = []
    found = mixed(
        BLANK, steps, target, known, work=str(work), comparison=lambda: Comparison("generic"),
        progress=lambda done, total, note: notes.append((done, total, note)),
    )  # fmt: skip
    return found, notes


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


@pytest.mark.parametrize(
    ("target", "sqnr_db", "agreement", "met"),
    [
        (Target.of(0, 0, has_metric=True), 5.0, 0.99, True),  # the metric alone decides
        (Target.of(0, 0, has_metric=True), 49.0, 0.5, False),
        (Target.of(0, 0, has_metric=True), 49.0, 0.955, False),
        (Target.of(0, 0, has_metric=False), 25.0, None, True),
        (Target.of(10, 0.9, has_metric=True), 25.0, 0.5, False),  # the user's limits hold both
        (Target.of(10, 0.9, has_metric=True), 5.0, 0.99, False),
        (Target.of(10, 0.9, has_metric=True), 11.0, 0.93, True),
    ],
)
def test_a_target_is_met_with_some_margin(target, sqnr_db, agreement, met):
    found = fidelity(10.0, frames=4)
    assert target.is_met(replace(found, sqnr_db=sqnr_db, agreement=agreement)) is met
    assert not target.is_met(None)


def test_the_margin_grows_with_the_doubt():
    found = fidelity(10.0, frames=4)
    target = Target(sqnr_db=10, agreement=0)
    sure = replace(found, sqnr_db=11.0, sqnr_db_ci95=(10.8, 11.2))
    doubtful = replace(found, sqnr_db=11.0, sqnr_db_ci95=(9.0, 13.0))
    assert target.is_met(sure)
    assert not target.is_met(doubtful)


@pytest.mark.parametrize(
    ("agreement", "interval", "met"),
    [
        (0.957, (0.953, 0.961), True),
        (0.957, (0.93, 0.98), False),
        (1.0, (0.8, 1.0), True),  # 16 of 16 frames: no graph can do better
        (0.957, None, False),
    ],
)
def test_the_margin_of_the_metric_is_that_of_its_interval(agreement, interval, met):
    found = replace(fidelity(10.0, frames=4), agreement=agreement, agreement_ci95=interval)
    assert Target.of(0, 0.95, has_metric=True).is_met(found) is met


def test_where_too_little_is_seen_sqnr_stands_in_for_the_metric():
    found = fidelity(10.0, frames=4)
    target = Target.of(0, 0.9, has_metric=True)
    unseen = replace(found, agreement=None, judged_frames=3)
    assert target.is_met(replace(unseen, sqnr_db=21.0))
    assert not target.is_met(replace(unseen, sqnr_db=19.0))
    assert not target.is_met(replace(found, sqnr_db=40.0, agreement=None, judged_frames=None))
