"""What the page shows of holdout frames: results of FP32 and of the chosen engine."""

from __future__ import annotations

import logging
import threading

from agent.config import Config
from agent.core.errors import QuantdError
from agent.core.records import Engine, Scenes
from agent.ports import Jobs
from agent.run.description import task_of
from agent.run.outcome import Outcome
from agent.wire.jobs import ShowScenes

_LOG = logging.getLogger(__name__)


def scenes(
    config: Config, jobs: Jobs, outcome: Outcome, beside: str | None, cancelled: threading.Event
) -> Scenes:
    """Run both engines on holdout frames; nothing depends on it, so an error is a reason.

    Args:
        config: The effective configuration.
        jobs: Run the engines.
        outcome: Of the chain.
        beside: Id of the candidate beside the baseline, which may be the baseline; None for none.
        cancelled: Set from outside to end the job.
    """
    if not config.shows_pictures:
        return Scenes()
    usable = [one for one in outcome.candidates if one.engine and not one.failure]
    others = [one for one in usable if one.id == beside]
    baselines = [one for one in usable if one.recipe.is_baseline]
    if others:
        baselines = [one for one in baselines if one.is_baseline_of(others[0])]
    shown = {one.id: one for one in (*baselines[:1], *others)}
    if not baselines:
        return Scenes(reason="no engine of the baseline can be run on a frame")
    engines: dict[str, Engine] = {one.id: one.engine for one in shown.values() if one.engine}
    spec = ShowScenes(
        config=config,
        engines=engines,
        task=task_of(config, [*shown.values()][-1]),
        model=outcome.model.digest,
        calibration=outcome.calibration.digest,
    )
    try:
        return jobs.run(spec, progress=lambda *_: None, cancelled=cancelled)
    except QuantdError as error:
        _LOG.warning("scenes_failed code=%s %s", error.code, error.message)
        return Scenes(reason=f"no frames are shown: {error.message}")
