"""The reports of earlier runs, and the state of this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.config import Config
from agent.core.errors import StoreError
from agent.wiring import storage

_PRIVATE = "only the user that runs quantd can read it: `sudo -u quantd quantd ...`"
_DAMAGED = "the file is damaged; `quantd optimize -c ...` makes a new one"


def reports(config: Config) -> list[Path]:
    """Return the folders of all reports, oldest first."""
    return sorted(path.parent for path in Path(config.storage.dir, "runs").glob("*/report.json"))


def last_report(config: Config, run_id: str | None = None) -> Path | None:
    """Return the folder of a run's report, the newest if none is named."""
    folders = [folder for folder in reports(config) if run_id in {None, folder.name}]
    return folders[-1] if folders else None


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report in a run's folder.

    Raises:
        StoreError: "bad_report" if it is damaged.
    """
    file = folder / "report.json"
    try:
        report = json.loads(file.read_bytes())
    except PermissionError as e:
        raise StoreError(f"{file}: {e.strerror}", code="bad_report", hint=_PRIVATE) from e
    except (OSError, ValueError) as e:
        raise StoreError(f"{file}: {e}", code="bad_report", hint=_DAMAGED) from e
    if not isinstance(report, dict):
        raise StoreError(f"{file} contains no report", code="bad_report", hint=_DAMAGED)
    return report


def status(config: Config) -> dict[str, Any]:
    """Return the active release, the last run and the number of unsent messages."""
    if not Path(config.storage.dir).is_dir():
        raise StoreError(
            f"{config.storage.dir} does not exist: nothing has run with this configuration",
            hint="`quantd optimize -c ...` or `quantd run -c ...` creates it",
        )
    releases = storage.releases(config)
    last = last_report(config)
    with storage.journal(config) as journal:
        counts = journal.counts()
        unfinished = [run.run_id for run in journal.unfinished_runs()]
    return {
        "device": config.device.id,
        "active release": releases.current(),
        "releases": releases.ids(),
        "marks": {one: mark.words for one, mark in releases.marks().items() if mark.words},
        "last run": last.name if last else None,
        "unfinished runs": unfinished,
        "messages waiting": counts.waiting,
        "storage": config.storage.dir,
    }


def run_folder(config: Config, run_id: str) -> Path:
    """Return the folder of a run's reports."""
    return Path(config.storage.dir, "runs", run_id)
