"""What a run and the child process of a job write to each other, as JSON.

The run writes one spec to a file; its `kind` names the struct. What the child answers is in
`job_lines`. A new kind of job is a spec here and its function in `agent.jobs.kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.fidelity.task import Task
from agent.core.frames.pixels import PixelPreset
from agent.core.prediction.predict import Trial
from agent.core.prediction.priors import Fleet
from agent.core.records import (
    CalibrationSet,
    CheckedIntake,
    CleanModel,
    ConditionedModel,
    Digest,
    Engine,
    Evaluation,
    LayerSpeeds,
    Measurements,
    MixedFront,
    Platform,
    PowerTrace,
    Profiles,
    QuantizedModel,
    Recipe,
    Scenes,
    Statistics,
)
from agent.core.report.document import Report
from agent.core.setup.facts import CameraFacts, ModelFacts
from agent.wire.job_spec import RecordSpec, Spec

_HOUR_S = 3600.0


class FindPlatform(Spec[Platform], frozen=True, kw_only=True, tag="platform"):
    """Find the machine and the runtime that will execute the engines."""

    limit_s = 300.0


class FindSensor(Spec[str], frozen=True, kw_only=True, tag="sensor"):
    """Find the power sensor that would be used; "" if there is none."""


class LookIntoModel(Spec[ModelFacts], frozen=True, kw_only=True, tag="model_facts"):
    """Read what the model file and the files beside it state."""

    limit_s = 300.0


class LookAtCamera(Spec[CameraFacts], frozen=True, kw_only=True, tag="camera_facts"):
    """Read a few frames of the camera, for their size and rate."""

    limit_s = 120.0


class LookUnderPresets(Spec[str], frozen=True, kw_only=True, tag="look"):
    """Return a page with one frame of the camera, and what the model finds on it.

    Attributes:
        choices: Of pixels, by their names.
    """

    choices: Mapping[str, PixelPreset]
    limit_s = 300.0


class ReadFleet(Spec[Fleet], frozen=True, kw_only=True, tag="fleet"):
    """Read what other devices measured of the model (a digest)."""

    model: Digest
    platform: Platform


class TimeTrial(RecordSpec[Trial], frozen=True, kw_only=True, tag="trial"):
    """Time the model's graph briefly, without calibration, for the prediction."""

    model: Digest
    batch: int
    platform: Platform


class CleanGraph(RecordSpec[CleanModel], frozen=True, kw_only=True, tag="intake"):
    """Make the user's model file, of this sha256, an ordinary graph."""

    sha256: str
    niceness = 10


class CaptureFrames(RecordSpec[CalibrationSet], frozen=True, kw_only=True, tag="capture"):
    """Take frames from the camera."""

    seed: int
    niceness = 5

    @property
    def timeout_s(self) -> float:
        """Return three times the window of the capture, and 5 minutes."""
        return 3 * self.config.calibration.window_s + 300


class CheckIntake(RecordSpec[CheckedIntake], frozen=True, kw_only=True, tag="intake_check"):
    """Compare the clean graph with the user's file on a few frames."""

    model: Digest
    calibration: Digest
    memory_hint = "free memory, add swap, or make the model's input smaller"
    niceness = 10


class ConditionModel(RecordSpec[ConditionedModel], frozen=True, kw_only=True, tag="condition"):
    """Make the model easier to quantize, where that helps."""

    model: Digest
    calibration: Digest
    scheme: str
    limit_s = 2 * _HOUR_S
    niceness = 10


class CollectStatistics(RecordSpec[Statistics], frozen=True, kw_only=True, tag="statistics"):
    """Run the calibration frames through the model once, for all calibrators.

    Attributes:
        extends: Earlier statistics to which these are added, or None.
    """

    conditioned: Digest
    model: Digest
    calibration: Digest
    extends: Digest | None
    limit_s = 2 * _HOUR_S
    niceness = 10


class TimeLayers(RecordSpec[LayerSpeeds], frozen=True, kw_only=True, tag="layer_speeds"):
    """Time every layer in INT8 and in float, to choose which ones are in float.

    Attributes:
        int8: With all layers in INT8.
        floating: The engine in float.
        precision: Of that: fp32 or fp16.
    """

    int8: Engine
    floating: Engine
    precision: str
    scheme: str
    model: Digest
    calibration: Digest
    conditioned: Digest
    statistics: Digest


class FindFront(RecordSpec[MixedFront], frozen=True, kw_only=True, tag="front"):
    """Find the graphs of int8-mixed.

    Attributes:
        speeds: Times of the layers; None if there are none, then their compute counts.
        weighed_by: What the time of layers is taken from, in words.
    """

    scheme: str
    model: Digest
    calibration: Digest
    conditioned: Digest
    statistics: Digest
    speeds: Digest | None
    weighed_by: str
    limit_s = _HOUR_S
    memory_hint = "free memory, add swap, or make the model's input smaller"
    niceness = 10


class QuantizeModel(RecordSpec[QuantizedModel], frozen=True, kw_only=True, tag="quantize"):
    """Apply a recipe's precision to the graph; a float precision needs no statistics.

    Attributes:
        kept: Layers that stay in float because INT8 is slower there.
        weighed_by: What that was seen by; "" if nothing was timed.
        front: Of int8-mixed, which chose its own layers.
    """

    model: Digest
    calibration: Digest
    recipe: Recipe
    conditioned: Digest | None
    statistics: Digest | None
    kept: tuple[str, ...] = ()
    weighed_by: str = ""
    front: Digest | None = None
    limit_s = _HOUR_S
    memory_hint = "free memory, add swap, or make the model's input smaller"
    niceness = 10
    per_candidate = True


class BuildEngine(RecordSpec[Engine], frozen=True, kw_only=True, tag="build"):
    """Build what the runtime executes; -1 as `dla_core` is the GPU alone.

    TensorRT calls back into Python from its own code and ignores the SystemExit of a signal
    handler there, so SIGTERM has to end the process without one. Only its folder is left behind.
    """

    quantized: Digest
    batch: int
    platform: Platform
    dla_core: int
    limit_s = 2 * _HOUR_S
    slow_hint = "lower runtime.builder_level, or give the machine more idle cores"
    memory_hint = "free memory, lower runtime.workspace_mb or runtime.builder_level, or add swap"
    niceness = 10
    ended_by_kernel = True
    per_candidate = True


class EvaluateEngine(RecordSpec[Evaluation], frozen=True, kw_only=True, tag="evaluate"):
    """Compare an engine with the FP32 baseline on held-out frames."""

    engine: Engine
    baseline: Engine
    model: Digest
    calibration: Digest
    per_candidate = True


class MeasureEngines(RecordSpec[Measurements], frozen=True, kw_only=True, tag="measure"):
    """Measure engines together, in interleaved rounds.

    How long that takes depends on the engines, and it reports progress every second, so it is
    ended by its silence.

    Attributes:
        engines: By candidate id.
        power_mode: To measure in; None for the present one.
        baselines: Candidates that a fast search measures long enough to compare with.
        same_graph_alternatives: Candidates that a fast search needs only while another with the
            same graph and other scales is disturbed, and that other.
        seed: Of the order of candidates.
        fast: Whether candidates that can't win any more are left out.
    """

    engines: Mapping[str, Engine]
    power_mode: str | None
    baselines: tuple[str, ...]
    same_graph_alternatives: Mapping[str, str]
    seed: int
    fast: bool
    model: Digest
    calibration: Digest
    ended_by_silence = True

    @property
    def timeout_s(self) -> float:
        """Return the longest silence: the idle time, or loading the largest engine."""
        return self.config.measure.idle_s + self.limit_s


class ProfileEngines(RecordSpec[Profiles], frozen=True, kw_only=True, tag="profile"):
    """Time the layers of some engines, each compared with FP32.

    Attributes:
        engines: By candidate id.
        baselines: The id of FP32 for each of the others, which is among the engines too.
    """

    engines: Mapping[str, Engine]
    baselines: Mapping[str, str]
    model: Digest
    calibration: Digest


class CheckRelease(Spec[str], frozen=True, kw_only=True, tag="check"):
    """Load a release (an id) as an application would, and run it once."""

    release: str
    limit_s = 120.0


class ShowScenes(Spec[Scenes], frozen=True, kw_only=True, tag="scenes"):
    """Return what engines find on a few holdout frames.

    Attributes:
        engines: By candidate id, of one batch: the baseline, and the one beside it if there is one.
        task: What their outputs mean.
    """

    engines: Mapping[str, Engine]
    task: Task
    model: Digest
    calibration: Digest


class RenderPage(Spec[str], frozen=True, kw_only=True, tag="render"):
    """Return report.html.

    Attributes:
        calibration: Whose frames are shown.
        traces: Of power, one for each power mode.
        sketches_ms: A few latencies of each candidate, for the plot.
        scenes: What is drawn over a few holdout frames.
    """

    report: Report
    calibration: Digest
    traces: tuple[PowerTrace, ...]
    sketches_ms: Mapping[str, tuple[float, ...]]
    scenes: Scenes = Scenes()
    limit_s = 120.0
