"""What the page shows of holdout frames: results of FP32 and of the engine that matters most."""

from __future__ import annotations

import logging
import threading

from agent.config import Config
from agent.core.errors import QuantdError
from agent.core.records import Scenes
from agent.core.search.profiling import to_profile
from agent.ports import Jobs
from agent.run.description import task_of
from agent.run.outcome import Outcome
from agent.wire.jobs import ShowScenes

_LOG = logging.getLogger(__name__)


def scenes(
    config: Config, jobs: Jobs, outcome: Outcome, chosen: str | None, cancelled: threading.Event
) -> Scenes:
    """Run both engines on holdout frames; nothing depends on it, so an error is a reason.

    Beside FP32 it is the chosen one; where that is FP32 or nothing, the fastest in INT8.

    Args:
        config: The effective configuration.
        jobs: Run the engines.
        outcome: Of the chain.
        chosen: Id of the candidate; None if nothing is feasible.
        cancelled: Set from outside to end the job.
    """
    if not config.shows_pictures:
        return Scenes()
    engines, baselines = to_profile(outcome.candidates, chosen)
    beside = next(iter(baselines), None)
    ids = [baselines[beside], beside] if beside else list(engines)[:1]
    if not ids:
        return Scenes(reason="No frames are shown: no engine was measured.")
    last = next(one for one in outcome.candidates if one.id == ids[-1])
    spec = ShowScenes(
        config=config,
        engines={name: engines[name] for name in ids},
        task=task_of(config, last),
        model=outcome.model.digest,
        calibration=outcome.calibration.digest,
    )
    try:
        return jobs.run(spec, progress=lambda *_: None, cancelled=cancelled)
    except QuantdError as error:
        _LOG.warning("scenes_failed code=%s %s", error.code, error.message)
        return Scenes(reason=f"No frames are shown: {error.message}.")
