"""What a run is expected to take, from its configuration and the stored reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from agent.config import Config
from agent.core.errors import StoreError
from agent.core.prediction.run_time import Protocol, RunTime, estimate, past_timings
from agent.core.records import Candidate, CleanModel
from agent.wiring.reported import read_report, reports

_REPORTS_READ = 10


def expected_time(
    config: Config, model: CleanModel, found: Sequence[Candidate], *, reused: bool = False
) -> RunTime:
    """Return what a run is expected to take.

    Args:
        config: The effective configuration.
        model: The clean model.
        found: The candidates; those that can't be used here already failed.
        reused: Whether the frames of a release are reused.
    """
    measure, search = config.measure, config.search
    usable = [one for one in found if not one.failure]
    protocol = Protocol(
        window_s=0.0 if reused else config.calibration.window_s,
        warmup_s=measure.warmup_s,
        duration_s=measure.duration_s,
        idle_s=measure.idle_s,
        paced=measure.rate_fps > 0,
        power_decides=config.requirements.power_decides,
        fast=search.strategy == "fast",
    )
    ids = frozenset(one.id for one in found)
    past = past_timings(_newest_reports(config), model.sha256, ids)
    return estimate(protocol, len(usable), len({one.power_mode for one in usable}), past)


def _newest_reports(config: Config) -> Iterator[dict[str, Any]]:
    for folder in reversed(reports(config)[-_REPORTS_READ:]):
        with suppress(StoreError):
            yield read_report(folder)
