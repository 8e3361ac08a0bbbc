"""What predictions stand on, with its adapters; each runs in a job's process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.errors import CameraError, ConfigError
from agent.core.frames.camera_uri import path_of
from agent.core.frames.profile import ProfileRow, parse_profile
from agent.core.prediction.priors import Fleet, FleetFigure, figures
from agent.core.records import CleanModel, Platform

if TYPE_CHECKING:
    from agent.core.prediction.predict import Trial


def trial(config: Config, model: Path, batch: int, found: Platform) -> Trial:
    """Return what the graph takes in a short trial, before anything is calibrated."""
    from agent.adapters.engines.trial_onnxruntime import time_trial

    runtime = config.runtime
    return time_trial(str(model), batch, found.scheme, runtime.threads, runtime.providers)


def fleet(config: Config, model: CleanModel, found: Platform) -> Fleet:
    """Return what `search.fleet`, and the CSV of a profile:/// camera, contain on the model.

    Raises:
        ConfigError: "bad_fleet" if a file can't be read or one of its values is bad.
    """
    names = {config.model.name, Path(config.model.path).name, model.sha256}
    boards = [found.environment.get(fact) for fact in ("board", "board_file")]
    here = {
        "runtime": {found.runtime},
        "board": {found.device, *(str(board) for board in boards if board)},
    }
    known: list[FleetFigure] = []
    if config.search.fleet:
        known += figures(_rows(config.search.fleet), names, here, Path(config.search.fleet).name)
    if config.camera.uri.startswith("profile:"):
        profile = path_of(config.camera.uri)
        known += figures(_rows(profile), names, here, Path(profile).name)
    return Fleet(figures=tuple(known))


def _rows(file: str) -> tuple[ProfileRow, ...]:
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as lines:
            return parse_profile(lines, frames=False)
    except CameraError as e:
        raise ConfigError(f"{file}: {e.message}", code="bad_fleet", hint=e.hint) from e
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "is not UTF-8 text"
        raise ConfigError(
            f"{file}: {reason}", code="bad_fleet", hint="check search.fleet and camera.uri"
        ) from e
