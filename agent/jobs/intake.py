"""The intake of a model file and its check on frames with their adapters, in a job's process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.frames.input_spec import resolved
from agent.core.frames.pixels import describe
from agent.core.records import CalibrationSet, CheckedIntake, CleanModel
from agent.core.setup.contradictions import contradictions
from agent.jobs.comparison import user_metric
from agent.jobs.frames import tensors
from agent.wire.jobs import CheckIntake, CleanGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.ports import Progress

_CHECKED_FRAMES = 4
_CHECKED_MACS = 20_000_000_000  # a few seconds of a small board's CPU, for the frames of one graph
_SUSPICIOUS_FRAMES = 32
_SUSPICIOUS_MACS = 5 * _CHECKED_MACS  # half a minute, before a search that would be for nothing
_CHECKED_BYTES = 96_000_000  # of outputs that are kept until the other graph gives its own


def intake(spec: CleanGraph) -> CleanModel:
    """Write the graph of the model file to the folder of the job.

    Raises:
        ModelError: naming what is wrong with the file and what to do.
    """
    from agent.adapters.graphs.intake import OnnxIntake

    model = spec.config.model
    clean = OnnxIntake().clean(model.path, model.name, model.input.spec, spec.work)
    return replace(clean, digest=spec.digest, sha256=spec.sha256)


def check_intake(
    spec: CheckIntake,
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> CheckedIntake:
    """Run the check of the intake, on the frames of a few seconds of computing.

    Raises:
        ModelError: "intake_differs", naming the output and the frame; "not_finite".
        ConfigError: "decode" if a detector's numbers can't be boxes and scores; if the user's
            metric can't be loaded.
        RunnerError: "user_metric" if that returns anything but a number 0..1.
    """
    from agent.adapters.graphs.as_written import outputs_as_written, rounds_by_itself
    from agent.adapters.graphs.looking import look_into
    from agent.core.fidelity.plausibility import Plausibility
    from agent.core.fidelity.sameness import COARSE_TOLERANCE, TOLERANCE
    from agent.graphs.integers import GIVEN
    from agent.stages.check_intake import check_intake as stage

    config, clean, task = spec.config, model[0], spec.config.model.task
    coarse = rounds_by_itself(config.model.path)
    given = model[1] / GIVEN  # of a quantized file; beside it is FP32, which rounds less
    outputs = 4 * sum(prod(tensor.shape) for tensor in clean.outputs) or 1
    macs = max(clean.macs, 1)
    most = min(_CHECKED_FRAMES, _CHECKED_MACS // macs, _CHECKED_BYTES // outputs)
    others = min(_SUSPICIOUS_FRAMES, _SUSPICIOUS_MACS // macs)

    def outputs_of(path: str, names: Sequence[str]) -> Iterator[Mapping[str, NDArray[Any]]]:
        frames = tensors(config, clean, calibration[1], tuple(names))
        return outputs_as_written(path, frames, config.runtime.threads)

    fed = resolved(config.model.input.spec, clean.inputs[0].shape)
    stated = contradictions(look_into(Path(config.model.path), inferred=False), fed)
    found = stage(
        CheckedIntake(
            digest=spec.digest,
            model=spec.model,
            calibration=spec.calibration,
            tolerance=COARSE_TOLERANCE if coarse else TOLERANCE,
        ),
        calibration[0].frames[: max(most, 1)],
        file=partial(outputs_of, config.model.path),
        graph=partial(outputs_of, str(given if given.exists() else model[1] / "model.onnx")),
        ranked=clean.ranked,
        coarse=coarse,
        progress=progress,
        plausibility=Plausibility(task.kind, task.decoding, user_metric(task.kind)),
        others=calibration[0].holdout[: max(others, 1)],
        fed=describe(fed),
    )
    return replace(found, doubts=(*stated, *found.doubts))
